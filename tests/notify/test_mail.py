"""Mails as a real mail server gets them."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from monitor.notify.message import render
from monitor.notify.sender import SendFailed
from tests.notify.mailbox import Mailbox, mail, part_of
from tests.notify.wire import begins, ends, graph, kv_cache_full, notice

FULL = kv_cache_full()
FIRING = render(notice(begins(FULL), graphs=(graph(), graph())))


def test_a_mail_has_a_text_an_html_part_and_its_pictures_in_place() -> None:
    mailbox = Mailbox()
    mail(mailbox, FIRING)
    (came,) = mailbox.mails
    assert came["Subject"] == "[FIRING] critical: KvCacheFull on node7 (server node7:8000)"
    assert came.get_content_type() == "multipart/related"
    text = part_of(came, "text/plain").get_content().replace("\r\n", "\n")
    assert text.strip() == f"{FIRING.title}\n\n{FIRING.body}"
    html = part_of(came, "text/html").get_content()
    pictures = [part for part in came.walk() if part.get_content_type() == "image/png"]
    assert len(pictures) == 2
    for picture in pictures:
        assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in html
        assert picture.get_content_disposition() == "inline"
        image = Image.open(io.BytesIO(picture.get_content()))
        assert (image.format, image.size) == ("PNG", (1200, 420))
    assert html.count("<img") == 2
    assert "<!--graph" not in html


def test_nothing_in_a_mail_comes_from_elsewhere() -> None:
    mailbox = Mailbox()
    mail(mailbox, FIRING)
    html = part_of(mailbox.mails[0], "text/html").get_content()
    assert not re.search(r"<(script|link|iframe|style)|url\(|@import|src=\"(?!cid:)", html)


def test_messages_of_one_alert_are_one_conversation() -> None:
    mailbox = Mailbox()
    mail(mailbox, FIRING, render(notice(ends(FULL), ident="f" * 24)))
    first, second = mailbox.mails
    assert first["References"] == second["References"] == f"<{FIRING.key}@node7>"
    assert first["Message-ID"] != second["Message-ID"]
    assert first["Auto-Submitted"] == "auto-generated"
    assert (first["X-Gpumon-Event"], second["X-Gpumon-Event"]) == (FIRING.event_id, "f" * 24)
    assert second["Subject"].startswith("[RESOLVED] ")
    assert second.get_content_type() == "multipart/alternative"


def test_a_mail_as_text_is_the_text() -> None:
    mailbox = Mailbox()
    mail(mailbox, render(notice(begins(FULL))), options="&format=text")
    (came,) = mailbox.mails
    assert came.get_content_type() == "text/plain"
    assert came.get_content().replace("\r\n", "\n").strip() == render(notice(begins(FULL))).body


def test_why_a_mail_server_refuses_is_told() -> None:
    with pytest.raises(SendFailed, match="mailbox is full"):
        mail(Mailbox("452 mailbox is full"), FIRING)
