"""What fuzzing found, each with the test that holds it now: written by hand. ``test_fuzz.py`` looks for the tests."""

from __future__ import annotations

from typing import NamedTuple

_FOUND = "tests/fuzz/test_found.py"


class Finding(NamedTuple):
    """One fault of the product that an input showed."""

    target: str
    what: str
    test: str
    """``tests/…/test_x.py::test_name``."""


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "openapi",
        "a method that a path of Alertmanager's has not was refused without saying which it has",
        f"{_FOUND}::test_a_wrong_method_is_told_the_right_ones",
    ),
    Finding(
        "http",
        "a moment of digits that are no numbers (`since_ms=²`) was answered by HTTP 500",
        f"{_FOUND}::test_a_moment_of_digits_that_are_no_numbers_is_refused",
    ),
    Finding(
        "http",
        "a body that is no UTF-8, or is nested 20,000 deep, was answered by HTTP 500",
        f"{_FOUND}::test_a_body_that_is_no_utf8_or_nested_without_end_is_refused",
    ),
    Finding(
        "silences",
        "a silence until a moment beyond the year 9999 was taken, and could not be shown then",
        f"{_FOUND}::test_a_silence_that_ends_beyond_the_last_year_is_refused",
    ),
    Finding(
        "silences",
        "a silence's text came into the events with its escape codes",
        f"{_FOUND}::test_an_event_of_a_silence_commands_no_terminal",
    ),
    Finding(
        "answers",
        "a receiver's answer that is nested deep ended the sender of its notification",
        f"{_FOUND}::test_a_receivers_answer_that_is_nested_without_end_is_read",
    ),
    Finding(
        "answers",
        "a `Retry-After` that no calendar has, the same",
        f"{_FOUND}::test_a_wait_that_no_calendar_has_is_none",
    ),
    Finding(
        "answers",
        "times of other daemons that no calendar has ended the screens",
        f"{_FOUND}::test_times_of_others_that_no_calendar_has_are_none",
    ),
    Finding(
        "answers",
        "a model server whose model says it is endlessly long was no longer watched",
        f"{_FOUND}::test_a_server_whose_model_is_endlessly_long_is_watched",
    ),
    Finding(
        "config",
        "a path that begins with the name of no user (`~x/y`) ended the daemon, and `gpumon check`, in a traceback",
        f"{_FOUND}::test_a_path_that_cannot_be_is_a_problem_at_its_place",
    ),
    Finding(
        "nvml",
        "a reading that only a newer reader has, as after an upgrade below a daemon that runs, ended every reading",
        f"{_FOUND}::test_what_only_a_newer_reader_reads_is_passed_over",
    ),
    Finding(
        "processes",
        "a line feed behind a program's name, a model's or an option's value was shown with it",
        f"{_FOUND}::test_a_line_feed_behind_a_programs_name_is_not_shown",
    ),
    Finding(
        "stream",
        "a model server's error came to the terminal with its escape codes",
        f"{_FOUND}::test_a_model_servers_error_commands_no_terminal",
    ),
    Finding(
        "exposition",
        "with a blank at a line's end, or a tab before a time, another number than the value was taken, or none",
        f"{_FOUND}::test_what_stands_between_a_value_and_a_time_makes_a_line_no_sample",
    ),
    Finding(
        "regex",
        "a pattern of 20 characters, a choice with nothing in it that is repeated, took ages on a text of one, and the "
        "daemon stood still meanwhile",
        f"{_FOUND}::test_a_pattern_that_pythons_engine_would_try_for_ever_takes_no_time_on_a_short_text",
    ),
    Finding(
        "config",
        "a file that ends within a bracket ended `gpumon check` in a traceback",
        f"{_FOUND}::test_a_bracket_that_is_not_closed_is_told_where_the_text_ends_with_it",
    ),
    Finding(
        "templates",
        "a hexadecimal number beyond what a float holds ended the reading of a rule file in a traceback",
        f"{_FOUND}::test_a_number_that_is_too_large_for_a_template_is_refused",
    ),
    Finding(
        "sse",
        "a frame with a time that no clock has ended the screens",
        f"{_FOUND}::test_a_frame_of_a_time_that_no_clock_has_is_refused",
    ),
)
