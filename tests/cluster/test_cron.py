"""Which cron expressions are taken: those that the backend reads as they are meant."""

import pytest

from potstill.cluster.cron import check_cron


@pytest.mark.parametrize(
    "text",
    [
        "0 30 2 * * *",
        "0 0 9 ? * 2-6",
        "0 0 9 ? * MON-fri",
        "0 */15 * * * *",
        "0 5/15 8-18/2 1,15 jan-MAR,12 ?",
        "59 59 23 31 12 6",
        "0 0 0 29 2 *",
        # Monday keeps it from never running.
        "0 0 0 31 2 1",
    ],
)
def test_what_the_backend_reads_is_taken(text: str):
    assert check_cron(text) == text


def test_spaces_between_fields_are_made_even():
    assert check_cron("  0 30\t2 * *  * ") == "0 30 2 * * *"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30 2 * * *", "5 fields instead of 6 .*a crontab's line lacks the second"),
        ("@daily", "1 fields instead of 6"),
        ("0 30 2 * * * 2027", "7 fields instead of 6"),
        ("60 0 0 * * *", "^second '60': '60' is not 0 to 59$"),
        ("0 61 0 * * *", "^minute '61'"),
        ("0 0 24 * * *", "^hour '24': '24' is not 0 to 23$"),
        ("0 0 0 0 * *", "^day of month '0': '0' is not 1 to 31$"),
        ("0 0 0 1 13 *", "^month '13': '13' is not 1 to 12 or jan, …$"),
        ("0 0 0 * * 7", "^day of week '7': '7' is not 0 to 6 or sun, …$"),
        ("0 0 0 * * moon", "^day of week 'moon'"),
        ("0 0 18-9 * * *", "^hour '18-9': 18-9 goes backwards$"),
        ("0 */0 * * * *", "^minute .*after / comes a number from 1, not '0'$"),
        ("0 */x * * * *", "^minute .*not 'x'$"),
        ("0 1/2/3 * * * *", "^minute .*not '2/3'$"),
        ("0 1-2-3 * * * *", "^minute .*'2-3'"),
        ("0 -5 * * * *", "^minute '-5': '' is not 0 to 59$"),
        ("0 1,,2 * * * *", "^minute '1,,2': '' is not"),
        ("0 *-5 * * * *", "^minute"),
        ("0 ٣ * * * *", "^minute"),
        ("0 0 0 L * *", "^day of month 'L'"),
        ("0 0 0 31 2,4,6 *", "^day of month '31': month '2,4,6' has no such day; it would never run$"),
        ("0 0 0 30 feb ?", "it would never run$"),
    ],
)
def test_the_wrong_field_is_named(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        check_cron(text)
