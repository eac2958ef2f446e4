"""Each row that is set aside has one reason, and data that teaches nothing is refused."""

import numpy as np
import pytest
from files import COLUMNS, COUNTED, DATED, GROUPED, RATE, TASK, csv, reasons

from potstill.data.formats import Columns
from potstill.data.split import TEST, TRAIN, VALIDATION
from potstill.data.survey import survey
from potstill.data.validate import judge, refuse_backwards, refuse_division, refuse_flawed, refuse_unusable
from potstill.errors import UserError


def test_of_rows_with_one_text_the_first_is_kept(tmp_path):
    source = csv(
        tmp_path / "rows.csv", ["Late again,a", "late again,a", "Late  again ,a", "Late again,b", "Late again,a"]
    )

    found = judge(survey({TRAIN: source}, COLUMNS, [TASK], seed=7), given=False, columns=COLUMNS)

    # Case makes another text; white space doesn't.
    assert reasons(found) == ["kept", "kept", "duplicate", "conflicting label", "duplicate"]


def test_given_test_rows_stay_whole_and_what_would_leak_is_taken_from_the_others(tmp_path):
    locations = {
        TRAIN: csv(tmp_path / "train.csv", ["one,a", "two,b", "three,a", "four,b"]),
        VALIDATION: csv(tmp_path / "validation.csv", ["two,b", "three,b", "five,a"]),
        TEST: csv(tmp_path / "test.csv", ["one,a", "three,a", "six,b", "six,b"]),
    }

    found = judge(survey(locations, COLUMNS, [TASK], seed=7), given=True, columns=COLUMNS)

    assert reasons(found)[:4] == ["also in test", "also in validation", "also in test", "kept"]
    # With every row of class a gone from training, a can't be learnt.
    assert reasons(found)[4:7] == ["kept", "also in test", "unknown label"]
    assert reasons(found)[7:] == ["unknown label", "unknown label", "kept", "duplicate"]


def test_given_rows_with_a_label_that_training_lacks_are_marked(tmp_path):
    locations = {
        TRAIN: csv(tmp_path / "train.csv", ["one,cancel_order", "two,track_order"]),
        TEST: csv(tmp_path / "test.csv", ["three,cancle_order", "four,track_order"]),
    }

    found = judge(survey(locations, COLUMNS, [TASK], seed=7), given=True, columns=COLUMNS)

    assert reasons(found) == ["kept", "kept", "unknown label", "kept"]


def test_groups_of_given_test_rows_are_taken_from_training(tmp_path):
    locations = {
        TRAIN: csv(tmp_path / "train.csv", ["one,a,s1", "two,a,s2", "three,b,s3"], "text,label,shop"),
        TEST: csv(tmp_path / "test.csv", ["four,a,s2", "five,b,s4"], "text,label,shop"),
    }

    found = judge(survey(locations, GROUPED, [TASK], seed=7), given=True, columns=GROUPED)

    assert reasons(found) == ["kept", "group also in test", "kept", "kept", "kept"]


def refusal(tmp_path, rows):
    source = csv(tmp_path / "rows.csv", rows)
    with pytest.raises(UserError) as caught:
        refuse_unusable(
            judge(survey({TRAIN: source}, COLUMNS, [TASK], seed=7), given=False, columns=COLUMNS),
            COLUMNS,
            {TRAIN: source},
        )
    assert str(caught.value).startswith(source)
    return str(caught.value)


def test_a_file_with_column_names_only_is_refused(tmp_path):
    assert refusal(tmp_path, []).endswith("no rows, only column names")


def test_texts_without_a_letter_are_refused(tmp_path):
    assert "text column 'text' holds no words" in refusal(tmp_path, ["1,a", "2.5,b", "--,b"])


def test_all_rows_rejected_is_refused_with_the_reasons(tmp_path):
    assert "all rows were rejected (3 rows read, of these 2 empty text, 1 empty label)" in refusal(
        tmp_path, [",a", ",b", "x,"]
    )


def test_a_label_column_with_one_class_is_refused(tmp_path):
    assert "label column 'label' has one class, 'a'" in refusal(tmp_path, ["x,a", "y,a"])


def test_classes_with_one_row_are_named(tmp_path):
    rows = ["x,a", "y,a", *(f"word {i},c{i}" for i in range(7))]

    message = refusal(tmp_path, rows)

    assert "7 classes with one row only: 'c0', 'c1', 'c2', 'c3', 'c4' and 2 more; add rows or drop them" in message


def test_a_class_whose_second_row_is_a_duplicate_says_so(tmp_path):
    message = refusal(tmp_path, ["x,a", "y,a", "z,b", "z,b"])

    assert "1 class with one row only: 'b' (after setting aside 1 duplicate)" in message


def division_refusal(tmp_path, columns, rows, split):
    source = csv(tmp_path / "rows.csv", rows, "text,label,shop")
    with pytest.raises(UserError) as caught:
        refuse_division(
            survey({TRAIN: source}, columns, [TASK], seed=7), np.array(split, dtype=np.uint8), columns, source
        )
    return str(caught.value)


def test_an_empty_split_names_the_group_column(tmp_path):
    message = division_refusal(tmp_path, GROUPED, ["x,a,s1", "y,b,s2"], [TRAIN, TEST])

    assert "column 'shop' has 2 values, which don't fill every split: validation is left empty" in message


def test_an_empty_split_of_few_rows_asks_for_more(tmp_path):
    message = division_refusal(tmp_path, COLUMNS, ["x,a,s1", "y,a,s2"], [TRAIN, TEST])

    assert "2 rows are too few: validation is left empty; add rows" in message


def test_a_class_that_groups_keep_from_training_is_named(tmp_path):
    message = division_refusal(tmp_path, GROUPED, ["x,a,s1", "y,b,s2", "z,a,s3"], [TRAIN, TEST, VALIDATION])

    assert "divided by 'shop', training has no row of 1 class of 'label': 'b'; choose another" in message


def test_a_row_alone_in_its_group_has_nothing_to_be_compared_with(tmp_path):
    rows = ["a,1,9,t1", "b,2,9,t1", "c,1,9,t2", "d,1,9,t3", "d,1,9,t3"]
    source = csv(tmp_path / "rows.csv", rows, "text,clicks,shown,test")

    found = judge(survey({TRAIN: source}, COUNTED, [RATE], seed=7), given=False, columns=COUNTED)

    # t3 showed one text twice, so there is something to compare.
    assert reasons(found) == ["kept", "kept", "alone in its group", "kept", "kept"]


def test_one_text_in_two_groups_is_no_repeat(tmp_path):
    rows = ["a,1,9,t1", "b,2,9,t1", "a,1,9,t2", "b,2,9,t2"]
    source = csv(tmp_path / "rows.csv", rows, "text,clicks,shown,test")

    found = judge(survey({TRAIN: source}, COUNTED, [RATE], seed=7), given=False, columns=COUNTED)

    assert reasons(found) == ["kept"] * 4


def test_given_files_that_run_backwards_are_refused(tmp_path):
    locations = {
        TRAIN: csv(tmp_path / "train.csv", ["a,x,2026-01-05", "b,y,2026-01-19"], "text,label,week"),
        VALIDATION: csv(tmp_path / "validation.csv", ["c,x,2026-01-20"], "text,label,week"),
        TEST: csv(tmp_path / "test.csv", ["d,x,2026-01-12"], "text,label,week"),
    }
    rows = judge(survey(locations, DATED, [TASK], seed=7), given=True, columns=DATED)

    words = r"'week' runs backwards: validation runs to 2026-01-20 .*, test begins at 2026-01-12"
    with pytest.raises(UserError, match=words):
        refuse_backwards(rows, rows.role, DATED, locations[TRAIN])


def test_data_of_which_too_much_is_flawed_is_refused_with_its_first_row(tmp_path):
    locations = {
        TRAIN: csv(tmp_path / "train.csv", ["one,a", "two,b", "two,b", "two,b"]),
        TEST: csv(tmp_path / "test.csv", ["three,a", ",a", "four,c", "five,b"]),
    }
    found = judge(survey(locations, COLUMNS, [TASK], seed=7), given=True, columns=COLUMNS)
    assert reasons(found)[4:] == ["kept", "empty text", "unknown label", "kept"]

    refuse_flawed(found, 0.25, locations, COLUMNS)
    # What stands twice is no flaw: two of eight rows are.
    message = (
        r"test\.csv: row 2: empty text: 2 of 8 rows can't be used \(1 empty text, 1 unknown label\) and .* allows 20%"
    )
    with pytest.raises(UserError, match=message):
        refuse_flawed(found, 0.2, locations, COLUMNS)


def test_the_first_flaw_is_told_with_its_file_column_and_value_and_what_to_do(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    csv(folder / "a.csv", ["one,a,2026-01-05", "two,b,2026-01-05"], "text,label,when")
    csv(folder / "b.csv", ["three,a,2026-01-05", "four,b,31/12/2024"], "text,label,when")
    columns = Columns(("text",), ("label",), features={"when": "date"})
    found = survey({TRAIN: str(folder)}, columns, [TASK], seed=7)

    message = r"b\.csv: row 2: feature not a date: when '31/12/2024': 1 of 4 rows .* write dates as in 2026-11-24"
    with pytest.raises(UserError, match=message):
        refuse_flawed(found, 0.0, {TRAIN: str(folder)}, columns)


def test_groups_of_one_row_each_are_refused_with_what_a_group_is_for(tmp_path):
    source = csv(tmp_path / "rows.csv", [f"text {i},{i % 2},9,g{i}" for i in range(6)], "text,clicks,shown,test")
    found = judge(survey({TRAIN: source}, COUNTED, [RATE], seed=7), given=False, columns=COUNTED)
    with pytest.raises(UserError, match=r"6 alone in its group\); data\.group must name rows that are compared"):
        refuse_unusable(found, COUNTED, {TRAIN: source})
