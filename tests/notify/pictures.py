"""Makes docs/pictures/mail.png and slack.png anew: ``python -m tests.notify.pictures [FOLDER]``. Needs Chromium.

The mail goes through a mail server, and its HTML part is what is shown. Slack's is drawn from the payload that went
over the wire, by a page that is laid out as Slack lays out attachments; it is no picture of Slack itself.
"""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from monitor.notify.message import Message, render
from tests.notify.mailbox import Mailbox, mail, part_of
from tests.notify.wire import Answer, alert_of, begins, ends, graph, kv_cache_full, notice, send_all, wire

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
LIMIT = 150_000

PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 16px 20px; background: #fff; color: #1d1c1d; font: 15px/22px Lato, 'Noto Sans', Arial,
 sans-serif; width: 680px }}
.message {{ display: flex; margin: 0 0 18px }}
.icon {{ width: 36px; height: 36px; border-radius: 6px; background: #1f2328; color: #fff; font: bold 14px/36px Arial;
 text-align: center; margin-right: 10px; flex: none }}
.from {{ font-weight: 900 }} .app {{ background: #ddd; color: #616061; font: bold 10px/14px Arial; padding: 1px 3px;
 border-radius: 2px; margin: 0 6px; vertical-align: 2px }} .at {{ color: #616061; font-size: 12px }}
.attachment {{ display: flex; margin: 4px 0 6px }} .bar {{ width: 4px; border-radius: 4px; margin-right: 12px;
 flex: none }}
.title {{ font-weight: 700 }} .fields {{ display: flex; flex-wrap: wrap; margin-top: 4px }}
.field {{ width: 50%; padding: 2px 12px 2px 0; box-sizing: border-box }} .long {{ width: 100% }}
.name {{ font-weight: 700 }} .footer {{ color: #616061; font-size: 12px; margin-top: 4px }}
code {{ font: 12px/18px Menlo, Consolas, 'DejaVu Sans Mono', monospace; color: #c01343; background: #f8f8f8;
 border: 1px solid #ddd; border-radius: 3px; padding: 1px 3px }}
</style>{messages}"""


def messages() -> tuple[Message, list[Message]]:
    """One for the mail, and what is shown of Slack."""
    full = kv_cache_full()
    hot = alert_of(
        "GpuTooHot",
        {
            "summary": "GPU 3 is at 92 °C; its slowdown is at 89 °C",
            "description": "It is throttled until it is cooler.",
            "action": "Look at the fans and the air flow: `gpumon snapshot` shows clocks and temperatures.",
        },
        92.0,
        since_ms=90_000,
        labels={"severity": "critical", "gpu": "3", "modelName": "NVIDIA H200"},
    )
    alone = render(notice(begins(full), graphs=(graph(),), external_url="https://grafana.example/d/gpumon"))
    several = render(notice(begins(hot), begins(kv_cache_full(server="node7:8001")), ends(full)))
    return alone, [alone, several, render(notice(ends(kv_cache_full(server="node7:8001"))))]


def mail_page(message: Message) -> str:
    """The HTML part of a mail as it came, with its pictures in it."""
    mailbox = Mailbox()
    mail(mailbox, message)
    (came,) = mailbox.mails
    picture = part_of(came, "image/png")
    data = base64.b64encode(picture.get_payload(decode=True)).decode()  # type: ignore[arg-type]
    html = str(part_of(came, "text/html").get_content())
    return html.replace(f"cid:{picture['Content-ID'].strip('<>')}", f"data:image/png;base64,{data}")


def slack_page(shown: list[Message]) -> str:
    """Slack's layout of what went over the wire."""
    with wire(lambda request: Answer(200, b"ok")) as server:
        outcomes = send_all(server.host, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7", shown)
        assert outcomes == [None] * len(shown), outcomes
        return PAGE.format(messages="".join(_message(request.json) for request in server.requests))


def _message(payload: dict[str, Any]) -> str:
    parts = "".join(_attachment(attachment) for attachment in payload["attachments"])
    head = '<span class="from">gpumon</span><span class="app">APP</span><span class="at">22:13</span>'
    return f'<div class="message"><div class="icon">g</div><div style="flex:1">{head}{parts}</div></div>'


def _attachment(attachment: dict[str, Any]) -> str:
    fields = "".join(
        f'<div class="field{"" if field["short"] else " long"}"><div class="name">{field["title"]}</div>'
        f"{_mrkdwn(field['value'])}</div>"
        for field in attachment.get("fields", ())
    )
    pretext = f"<div>{_mrkdwn(attachment['pretext'])}</div>" if "pretext" in attachment else ""
    title = f'<div class="title">{attachment["title"]}</div>' if "title" in attachment else ""
    footer = f'<div class="footer">{attachment["footer"]} | today at 22:13</div>' if "footer" in attachment else ""
    return (
        f'{pretext}<div class="attachment"><div class="bar" style="background:{attachment["color"]}"></div>'
        f"<div>{title}<div>{_mrkdwn(attachment.get('text', ''))}</div>"
        f'<div class="fields">{fields}</div>{footer}</div></div>'
    )


def _mrkdwn(text: str) -> str:
    # The text is escaped already, as Slack wants it, and as HTML does.
    text = re.sub(r"<(https?://[^<>|]+)\|([^<>|]+)>", r'<a href="\1">\2</a>', text)
    text = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", text)
    text = re.sub(r"(?<!\w)\*([^*\n]+)\*(?!\w)", r"<b>\1</b>", text)
    text = re.sub(r"(?<!\w)_([^_\n]+)_(?!\w)", r"<i>\1</i>", text)
    return text.replace("\n", "<br>")


def photograph(page: str, file: Path, width: int) -> None:
    """Show a page in Chromium, and keep what is not empty of it. Raises ``SystemExit`` where there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium here: install the package chromium, and run this again")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(page)
        subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
                *(f"--user-data-dir={folder}/profile", "--hide-scrollbars", "--force-device-scale-factor=1.5"),
                *(f"--window-size={width},1600", f"--screenshot={folder}/shot.png", f"file://{folder}/page.html"),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        image = Image.open(f"{folder}/shot.png").convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((2, image.height - 2)))
    box = ImageChops.difference(image, empty).getbbox() or (0, 0, *image.size)
    image = image.crop((0, 0, image.width, min(image.height, box[3] + 24)))
    out = io.BytesIO()
    image.quantize(40, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    assert len(out.getvalue()) < LIMIT, f"{file.name} has {len(out.getvalue())} bytes"
    file.write_bytes(out.getvalue())


def main() -> None:
    """Make both."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    alone, shown = messages()
    photograph(mail_page(alone), folder / "mail.png", 700)
    photograph(slack_page(shown), folder / "slack.png", 740)


if __name__ == "__main__":
    main()
