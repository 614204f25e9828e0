"""Small generative models learn: from answers, from a teacher, whole or by adapters, in one go or in two."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

transformers = pytest.importorskip("transformers", reason="needs the train extra")
torch = pytest.importorskip("torch", reason="needs the train extra")

from pilotfish.core.errors import ConfigError, DataError  # noqa: E402
from pilotfish.core.messages import ChatRequest, Message  # noqa: E402
from pilotfish.models.local_weights import LocalWeights  # noqa: E402
from pilotfish.students.generative import (  # noqa: E402
    MASKED,
    Learner,
    Pair,
    Recipe,
    Shown,
    check_teacher,
    loss_of,
)
from pilotfish.students.generative_training import HIDDEN, finetune, train_step  # noqa: E402
from tools.command_line import CommandLine, files  # noqa: E402
from tools.documented import N_REQUESTS, TASK, record  # noqa: E402
from tools.tiny_transformers import CHAT, write_tiny_encoder, write_tiny_gpt2, write_tiny_t5  # noqa: E402

# "444" is to become "4!": rewriting, at its smallest.
PAIRS = [
    Pair(messages=[Message(role="user", content=str(i % 10) * (i // 10 + 1))], answer=f"{i % 10}!") for i in range(80)
]
QUICK = Recipe(learning_rate=2e-2, batch=16, epochs=10, patience=10)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return str(write_tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2", is_new=True))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return str(write_tiny_t5(tmp_path_factory.mktemp("models") / "t5"))


@pytest.fixture(scope="module")
def shown(gpt2):
    learner = Learner(gpt2)
    return learner.lessons(PAIRS, Recipe()).train[:12]


def no_dropout(folder, **changes):
    learner = Learner(folder)
    torch.manual_seed(0)
    for module in learner.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    learner.prepare(Recipe(**changes))
    return learner


def weights_after(folder, shown, **changes):
    recipe = Recipe(**changes)
    learner = no_dropout(folder, **changes)
    optimizer = torch.optim.SGD(learner.trained().values(), lr=0.1)
    loss = train_step(learner, shown, recipe, optimizer)
    return loss, {name: value.detach().clone() for name, value in learner.trained().items()}


def said(folder, text):
    request = ChatRequest(messages=[Message(role="user", content=text)])
    return asyncio.run(LocalWeights(str(folder), max_tokens=8).answer(request)).text


@pytest.mark.parametrize("template", ["", CHAT], ids=["no template", "a template"])
def test_the_answer_is_learnt_and_the_question_only_read(template, tmp_path):
    learner = Learner(str(write_tiny_gpt2(tmp_path / "gpt2", chat_template=template)))
    learner.lessons(PAIRS, Recipe())
    one = learner.show(PAIRS[13])
    n_asked = one.labels.count(MASKED)
    characters = "".join(learner.tokenizer.convert_ids_to_tokens(one.ids))
    assert characters[:n_asked] == ("user: 33\nassistant: " if template else "33\n")
    assert characters[n_asked:] == "3!<s>"
    assert one.labels[n_asked:] == one.ids[n_asked:]
    # What the question would have cost is no part of the loss.
    with torch.no_grad():
        loss, n = loss_of(learner, [one], Recipe())
        whole, n_whole = loss_of(learner, [Shown(ids=one.ids, labels=one.ids)], Recipe())
    assert (n, n_whole) == (len(one.ids) - n_asked, len(one.ids) - 1)
    assert 0 < float(loss) < float(whole)


def test_accumulated_batches_are_one_large_batch(gpt2, shown):
    """Answers of different lengths too: every token weighs the same, in whichever part of the step it stands."""
    uneven = [*shown, Shown(ids=shown[0].ids * 3, labels=shown[0].labels * 3)]
    whole, one = weights_after(gpt2, uneven, batch=13)
    parts, other = weights_after(gpt2, uneven, batch=4, accumulate=4)
    assert parts == pytest.approx(whole, rel=1e-5)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lora", [None, 2])
def test_checkpointing_changes_no_gradient(gpt2, shown, lora):
    _, one = weights_after(gpt2, shown, lora=lora)
    _, other = weights_after(gpt2, shown, lora=lora, checkpointing=True)
    assert no_dropout(gpt2, lora=lora, checkpointing=True).model.is_activation_checkpointing
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_a_teacher_is_followed_by_the_loss_of_hinton(gpt2, shown, tmp_path):
    """(1 - w) CE + w T² KL(teacher || student), summed over answer tokens; the teacher's weights stay."""
    student, teacher = Learner(gpt2), Learner(str(write_tiny_gpt2(tmp_path / "teacher", seed=1)))
    student.model.eval(), teacher.model.eval()
    recipe = Recipe(temperature=3.0, teacher_share=0.7)
    loss, n = loss_of(student, shown, recipe, teacher)
    (ours, labels), (theirs, _) = student.scores(shown), teacher.scores(shown)
    p, q = (theirs.double() / 3).softmax(1), (ours.double() / 3).softmax(1)
    entropy = -ours.log_softmax(1)[torch.arange(n), labels].sum()
    expected = 0.3 * entropy + 0.7 * 9 * (p * (p / q).log()).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert all(value.grad is None for value in teacher.model.parameters())
    only = Recipe(teacher_share=1.0)
    optimizer = torch.optim.AdamW(student.model.parameters(), lr=1e-2)
    steps = [train_step(student, shown, only, optimizer, teacher) for _ in range(15)]
    assert steps[-1] < 0.5 * steps[0]
    with torch.no_grad():
        assert loss_of(teacher, shown, only, teacher)[0].item() == pytest.approx(0, abs=1e-4)


def test_adapters_alone_are_trained_and_merged_in_the_end(gpt2, shown):
    learner = no_dropout(gpt2, lora=2)
    assert all("lora_" in name for name in learner.trained())
    assert 0 < sum(value.numel() for value in learner.trained().values()) < 0.3 * learner.n_parameters
    before = {name: v.clone() for name, v in learner.model.named_parameters() if not v.requires_grad}
    optimizer = torch.optim.SGD(learner.trained().values(), lr=1.0)
    for _ in range(3):
        train_step(learner, shown, Recipe(), optimizer)
    assert all(torch.equal(v, before[name]) for name, v in learner.model.named_parameters() if name in before)
    learner.model.eval()
    adapted = learner.scores(shown)[0]
    learner.model = learner.finished()
    assert set(learner.model.state_dict()) == set(Learner(gpt2).model.state_dict())
    torch.testing.assert_close(learner.scores(shown)[0], adapted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(Learner(gpt2).scores(shown)[0], adapted, atol=1e-3)


def test_a_causal_model_learns_its_answers_and_answers_them_from_its_folder(gpt2, tmp_path):
    found = finetune(gpt2, PAIRS, tmp_path / "out", replace(QUICK, learning_rate=1e-2, batch=8, epochs=14))
    assert found.is_written
    assert found.after == pytest.approx(min(found.losses), rel=1e-4)
    assert found.after < 0.6 < found.before
    assert (found.n_train, found.n_held_out) == (72, 8)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files(tmp_path / "out"))
    assert HIDDEN not in files(tmp_path / "out")
    assert found.size_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert said(tmp_path / "out", "777") == "7 !"


def test_an_encoder_decoder_learns_to_shorten_and_is_asked_like_any_model(t5, tmp_path):
    found = finetune(t5, PAIRS, tmp_path / "out", QUICK)
    assert found.after < 0.3 < found.before
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    made = model.generate(tokenizer("777", return_tensors="pt").input_ids, max_new_tokens=8)
    assert said(tmp_path / "out", "777") == tokenizer.decode(made[0], skip_special_tokens=True) == "7 !"


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("lora", [None, 2])
def test_a_run_that_was_ended_goes_on_as_if_it_had_not_been(gpt2, tmp_path, lora):
    """With dropout, in the midst of an epoch: order, moments and random numbers are those of an unbroken run."""
    recipe = Recipe(learning_rate=1e-2, batch=16, epochs=3, lora=lora)
    whole = finetune(gpt2, PAIRS, tmp_path / "whole", recipe)

    def stop_at(step):
        def report(_stage, done, _total, _detail):
            if done == step:
                raise StoppedError

        return report

    for step in (3, 8):
        with pytest.raises(StoppedError):
            finetune(gpt2, PAIRS, tmp_path / "parts", recipe, report=stop_at(step), save_every_s=0)
        assert files(tmp_path / "parts") == [HIDDEN]
    with pytest.raises(ConfigError, match="unfinished run with another model, data or recipe"):
        finetune(gpt2, PAIRS, tmp_path / "parts", Recipe(seed=1))
    parts = finetune(gpt2, PAIRS, tmp_path / "parts", recipe)
    assert parts.losses == whole.losses
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert one == other


def test_nothing_is_written_where_nothing_was_learnt(gpt2, tmp_path):
    found = finetune(gpt2, PAIRS, tmp_path / "out", Recipe(learning_rate=1e3, epochs=5))
    assert not found.is_written
    assert not (tmp_path / "out").exists()
    assert len(found.losses) == 3  # before, and two epochs of patience


def test_what_cannot_be_learnt_is_said(gpt2, t5, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(ConfigError, match="is there already"):
        finetune(gpt2, PAIRS, tmp_path / "full", Recipe())
    with pytest.raises(ConfigError, match="DistilBertModel: it generates no text"):
        Learner(str(write_tiny_encoder(tmp_path / "base")))
    with pytest.raises(ConfigError, match="it learns answers, not a text"):
        Learner(t5).lessons("A text.", Recipe())
    with pytest.raises(DataError, match=r"0 examples .* 80 were longer than 4 tokens"):
        Learner(gpt2).lessons(PAIRS, Recipe(max_tokens=4))
    with pytest.raises(ConfigError, match="different kinds"):
        check_teacher(Learner(gpt2), Learner(t5))
    other = Learner(gpt2)
    other.tokenizer.add_tokens(["word"])
    with pytest.raises(ConfigError, match="different vocabularies"):
        check_teacher(Learner(gpt2), other)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            Learner(gpt2, "cuda")


def test_questions_that_hang_together_are_held_out_together(gpt2):
    pairs = [
        Pair(messages=[Message(role="user", content=f"{i}")], answer=f"{i % 5}", cluster=f"passage {i % 5}")
        for i in range(50)
    ]
    pairs.append(Pair(messages=[Message(role="user", content="?")], answer=" "))
    found = Learner(gpt2).lessons(pairs, Recipe())
    assert {one.ids[-2] for one in found.train}.isdisjoint(one.ids[-2] for one in found.held_out)
    assert (len(found.held_out), found.n_empty) == (10, 1)


def test_the_command_teaches_from_a_file_with_a_teacher(gpt2, tmp_path, capsys):
    data = tmp_path / "pairs.jsonl"
    rows = [{"input": pair.messages[0].content, "output": pair.answer} for pair in PAIRS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["finetune", gpt2, "--on", data, "--to", tmp_path / "out", "--teacher", gpt2, "--epochs", 2]
    done = CommandLine(capsys)(*command, "--learning-rate", 0.01, "--json")
    assert (done.code, done.err) == (0, "")
    held_out = done.json["held_out"]
    assert held_out["loss_after_nats"] < held_out["loss_before_nats"]
    assert held_out["perplexity_after"] < held_out["perplexity_before"]
    assert done.json["folder"] == str(tmp_path / "out")
    again = CommandLine(capsys)(*command)
    assert again.code == 2
    assert "is there already" in again.err


def test_the_command_goes_on_with_a_text(gpt2, tmp_path, capsys):
    text = tmp_path / "story.txt"
    text.write_text("The ship left the harbour at nine. " * 60)
    command = ["finetune", gpt2, "--on", text, "--to", tmp_path / "out", "--max-tokens", 64, "--learning-rate", 0.02]
    done = CommandLine(capsys)(*command, "--lora", 4, "--epochs", 4)
    assert (done.code, done.err) == (0, "")
    assert "Learnt from 30 blocks, measured on 3 held out" in done.out
    assert "after epoch 4" in done.out
    # A text teaches no chat.
    assert not transformers.AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    text.write_text("Short.")
    done = CommandLine(capsys)("finetune", gpt2, "--on", text, "--to", tmp_path / "other")
    assert done.code == 2
    assert "cannot be split into some to learn from and some held out" in done.err


def test_the_command_learns_a_task_of_the_log(gpt2, tmp_path, capsys):
    record(tmp_path)
    pilotfish, home = CommandLine(capsys), tmp_path / "home"
    assert pilotfish("tasks", "--home", home).code == 0
    command = ["finetune", gpt2, "--to", tmp_path / "out", "--epochs", 1, "--batch", 64, "--home", home, "--json"]
    done = pilotfish(*command, "--on", TASK)
    assert (done.code, done.err) == (0, "")
    assert done.json["n_train"] + done.json["held_out"]["n"] == N_REQUESTS
    done = pilotfish(*command, "--on", "nothing")
    assert done.code == 2
    assert "'nothing' is neither a file nor a task of the log" in done.err
