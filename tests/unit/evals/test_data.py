import csv
import gzip
import json

import pytest

from pilotfish.core.errors import DataError, UserError
from pilotfish.evals.data import load
from pilotfish.scoring.scorers import scorer


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, "utf-8")
    return str(path)


def asked(item):
    return item.messages[-1].content


@pytest.mark.parametrize("source", ["input", "question", "prompt"])
@pytest.mark.parametrize("target", ["expected", "answer", "label"])
def test_plain_pairs_go_by_many_names(tmp_path, source, target):
    found = load(write(tmp_path / "a.jsonl", [{source: "2+2?", target: "four", "lang": "en", "hard": False}]))
    item = found.items[0]
    assert (asked(item), item.expected, item.tags) == ("2+2?", "four", {"lang": "en", "hard": "false"})
    assert (found.name, found.default_scorer) == ("a", "exact")


def test_instructions_choices_cluster_and_tests_of_a_pair_are_kept(tmp_path):
    row = {"id": 7, "system": "Be brief.", "input": "x", "expected": "b", "choices": ["a", "b"], "cluster": "c1"}
    item = load(write(tmp_path / "a.jsonl", [row])).items[0]
    assert [message.role for message in item.messages] == ["system", "user"]
    assert (item.id, item.choices, item.cluster) == ("7", ("a", "b"), "c1")


def test_csv_is_read_with_its_header(tmp_path):
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["question", "answer", "topic"], ["Name,\na city", "Paris", "geo"]])
    item = load(str(tmp_path / "a.csv")).items[0]
    assert (asked(item), item.expected, item.tags) == ("Name,\na city", "Paris", {"topic": "geo"})


def test_a_closed_set_of_answers_becomes_the_labels(tmp_path):
    rows = [{"text": f"text {n}", "label": ("ham", "spam")[n % 2]} for n in range(40)]
    found = load(write(tmp_path / "a.jsonl", rows))
    assert found.default_scorer == "label"
    assert found.items[0].choices == ("ham", "spam")
    assert "ham\nspam" in found.items[0].messages[0].content
    assert asked(found.items[0]) == "text 0"


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Which?", "choices": ["x", "y"], "answer": 1, "subject": "law"},
        {"question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
        {"question": "Which?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
        {
            "id": "ARC_1",
            "question": {"stem": "Which?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},
            "answerKey": "B",
        },
    ],
)
def test_multiple_choice_is_asked_with_letters(tmp_path, row):
    found = load(write(tmp_path / "a.jsonl", [row]))
    item = found.items[0]
    assert asked(item).startswith("Which?\nA. x\nB. y\n")
    assert (item.expected, item.choices, found.default_scorer) == ("B", ("x", "y"), "choice")


def test_mmlu_as_its_authors_publish_it(tmp_path):
    for split, answer in (("test", "B"), ("dev", "C")):
        (tmp_path / split).mkdir()
        for subject in ("anatomy", "world_religions"):
            file = tmp_path / split / f"{subject}_{split}.csv"
            file.write_text(f'"One, or two?",a,b,c,d,{answer}\n"3?",1,2,3,4,{answer}\n')
    found = load(str(tmp_path))
    assert [item.tags for item in found.items] == [
        {"subject": subject, "split": "test"} for subject in ("anatomy", "world_religions") for _ in range(2)
    ]
    assert {item.expected for item in load(str(tmp_path), split="validation").items} == {"C"}
    assert len(load(str(tmp_path), split="all").items) == 8
    with pytest.raises(DataError, match="test 4"):
        load(str(tmp_path), split="train")


def test_gsm8k_humaneval_and_mbpp_as_their_authors_publish_them(tmp_path):
    gsm8k = load(write(tmp_path / "g.jsonl", [{"question": "2+2?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"}]))
    assert (gsm8k.items[0].expected, gsm8k.default_scorer) == ("1,004", "number")
    row = {
        "task_id": "HumanEval/0",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "canonical_solution": "    return x\n",
    }
    code = load(write(tmp_path / "h.jsonl.gz", [{**row, "test": "def check(c):\n    assert c(1) == 1\n"}]))
    assert (code.items[0].id, code.items[0].tags, code.default_scorer) == (
        "HumanEval/0", {"entry_point": "f"}, "unit_tests",
    )  # fmt: skip
    assert scorer("unit_tests")(code.items[0], row["canonical_solution"]).value == 1
    mbpp = load(write(tmp_path / "m.jsonl", [{"task_id": 1, "text": "Double it.", "test_list": ["assert f(1) == 2"]}]))
    assert scorer("unit_tests")(mbpp.items[0], "def f(x): return 2 * x").value == 1


def test_squad_items_of_one_passage_are_a_cluster(tmp_path):
    rows = [
        {"context": context, "question": f"{n}?", "answers": {"text": ["a", "a", "an a"], "answer_start": [0, 0, 0]}}
        for context in ("one passage", "another")
        for n in range(2)
    ]
    found = load(write(tmp_path / "a.jsonl", rows))
    assert [item.cluster for item in found.items] == [found.items[0].cluster] * 2 + [found.items[2].cluster] * 2
    assert found.items[0].cluster != found.items[2].cluster
    assert (found.items[0].expected, found.default_scorer) == (["a", "an a"], "squad_f1")


def test_recorded_traffic_is_one_set(tmp_path):
    chat = [{"role": "system", "content": "Label it."}, {"role": "user", "content": "hi"}]
    rows = [{"messages": [*chat, {"role": "assistant", "content": ("yes", "no")[n % 2]}]} for n in range(30)]
    found = load(write(tmp_path / "a.jsonl", [*rows, {"messages": [*chat, {"role": "assistant", "tool_calls": [{}]}]}]))
    assert len(found.items) == 30
    assert (found.items[0].tags, found.default_scorer) == ({"task": "Label it."}, "label")
    assert "1 rows" in found.notes[0]
    assert "line 31: the answer is a tool call" in found.notes[0]
    assert len({item.id for item in found.items}) == 30


def test_the_two_files_of_a_batch_are_joined(tmp_path):
    body = {"model": "large", "messages": [{"role": "user", "content": "2+2?"}]}
    completion = {"choices": [{"message": {"role": "assistant", "content": "4"}}]}
    write(tmp_path / "in.jsonl", [{"custom_id": "a", "body": body}])
    write(tmp_path / "out.jsonl", [{"custom_id": "a", "response": {"body": completion}}])
    item = load(str(tmp_path)).items[0]
    assert (asked(item), item.expected) == ("2+2?", "4")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"colour": 1}, "no layout has the columns 'colour'"),
        ([1, 2], "expected an object"),
        ({"question": "a?", "choices": ["x", "y"], "answer": "Z"}, "one of A, B or an index"),
        ({"question": "a?", "choices": ["x"], "answer": "A"}, "2 to 26 texts"),
        ({"context": "a", "question": "b", "answers": "c"}, "'answers' must be a list"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "lists of one length"),
        ({"tokens": ["a"], "tags": [3]}, "IOB2"),
        ({"input": {"a": 1}, "expected": "x"}, "'input' must be text"),
        ({"instruction": "a", "output_1": "b", "output_2": "c", "preferred": 3}, "must be 1 or 2"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_line(tmp_path, row, why):
    good = {"input": "x", "expected": "y"}
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be read. First a.jsonl, line 2: .*") as caught:
        load(write(tmp_path / "a.jsonl", [good, row]))
    assert why in str(caught.value)


def test_lines_that_are_no_json_or_no_csv_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"input": "x", "expected": "y"}\n{"input": \n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2: not JSON"):
        load(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.csv").write_text("input,expected\nx,y\nx,y,z\n")
    with pytest.raises(DataError, match=r"a.csv, line 3: 3 fields for the 2 columns input, expected"):
        load(str(tmp_path / "a.csv"))


def test_what_is_not_there_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match="Expected a path, a data set of the hub"):
        load("nosuchfile")
    with pytest.raises(DataError, match="holds no data file"):
        load(str(tmp_path))
    with pytest.raises(UserError):
        load(write(tmp_path / "a.jsonl", []))
    with pytest.raises(DataError, match="limit of 0"):
        load(str(tmp_path / "a.jsonl"), limit=0)


def test_an_id_stands_for_one_row(tmp_path):
    with pytest.raises(DataError, match="'x' occurs 2 times"):
        load(write(tmp_path / "a.jsonl", [{"id": "x", "input": "a", "expected": "b"}] * 2))
    same = load(write(tmp_path / "a.jsonl", [{"input": "a", "expected": "b"}] * 2)).items
    assert same[1].id == f"{same[0].id}-2"


def test_a_limit_draws_a_sample_that_survives_growth(tmp_path):
    rows = [{"input": f"question {n}", "expected": str(n)} for n in range(1000)]
    small, large = write(tmp_path / "a.jsonl", rows[:900]), write(tmp_path / "b.jsonl", rows)
    drawn = [item.id for item in load(small, limit=100).items]
    assert drawn == [item.id for item in load(small, limit=200).items[:100]]
    grown = {item.id for item in load(large, limit=100).items}
    assert len(grown & set(drawn)) >= 75  # about a tenth are newcomers
    other = {item.id for item in load(small, limit=100, seed=1).items}
    assert len(other & set(drawn)) < 40
    mean = sum(float(item.expected) for item in load(large, limit=300).items) / 300
    assert abs(mean - 499.5) < 60  # 3.6 standard errors


def test_the_hash_is_of_the_items(tmp_path):
    rows = [{"input": "a", "expected": "b"}, {"input": "c", "expected": "d"}]
    one = load(write(tmp_path / "a.jsonl", rows))
    assert one.sha256 == load(write(tmp_path / "b.jsonl.gz", rows)).sha256
    assert one.sha256 != load(write(tmp_path / "c.jsonl", [rows[0], {**rows[1], "expected": "e"}])).sha256


def test_parquet_is_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    parquet.write_table(
        pyarrow.table({"question": ["a?"], "choices": [["x", "y"]], "answer": [1]}),
        tmp_path / "test-00000-of-00001.parquet",
    )
    found = load(str(tmp_path))
    assert (found.items[0].expected, found.items[0].tags["split"]) == ("B", "test")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="as Parquet"):
        load(str(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    ("name", "n", "scorer_name"),
    [
        ("cls_banking77", 3080, "label"),
        ("cls_sst2", 1821, "label"),
        ("judge_llmbar_natural", 100, "label"),
        ("ner_wnut17", 1287, "entity_f1"),
        ("pii_presidio_synth", 463, "entity_f1"),
        ("prompts_arena_hard", 500, "judge"),
        ("prompts_humaneval", 164, "unit_tests"),
        ("qa_squad_24_articles", 1403, "squad_f1"),
        ("routing_alpacaeval_49models", 802, "judge"),
        ("routing_bbh_direct_vs_cot", 2178, "auto"),
        ("routing_gsm8k", 656, "number"),
        ("routing_gsm8k_43models", 660, "number"),
        ("routing_gsm8k_gpt3_6b_175b", 660, "number"),
        ("routing_llmrouter_9models", 5315, "auto"),
    ],
)
def test_the_labelled_texts_of_a_development_checkout_are_read(shared_data, name, n, scorer_name):
    found = load(str(shared_data / f"{name}.jsonl.gz"))
    assert (len(found.items), found.default_scorer, found.name) == (n, scorer_name, name)
    assert all(item.messages and item.id for item in found.items)


@pytest.mark.parametrize("name", ["cls_banking77", "qa_squad_24_articles", "ner_wnut17", "prompts_gsm8k_train"])
def test_the_expected_answer_is_right_by_its_own_scorer(shared_data, name):
    found = load(str(shared_data / f"{name}.jsonl.gz"), limit=200)
    score = scorer(found.default_scorer)
    for item in found.items:
        gold = item.expected[0] if name.startswith("qa") else item.expected
        answer = gold if isinstance(gold, str) else json.dumps(gold)
        assert score(item, answer).value == 1, item
