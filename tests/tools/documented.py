"""What the documents talk about, made small: recorded traffic, and a log of the same requests in a home."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from pilotfish.core.ids import request_id
from pilotfish.core.messages import ChatRequest, Message
from pilotfish.store.build import open_importer, open_writer
from pilotfish.tasks.fingerprint import instructions_id, instructions_row
from tools.log_rows import request_row
from tools.tiny_tasks import examples

INSTRUCTIONS = "Sort support messages. Answer with one word."
TASK = "sort-support-messages"
N_REQUESTS = 500


@dataclass(frozen=True)
class Place:
    """A folder to work in, with `my-traffic.jsonl` and `home`; a gateway in front of that home."""

    folder: Path
    cache: Path
    encoder: str
    port: int
    request_id: str


def record(folder: Path) -> str:
    """The same requests as a traffic file and as the log of a home; the id of one of them."""
    rows = [(example.text, (example.answer or ("",))[0]) for example in examples(N_REQUESTS)]
    system = {"role": "system", "content": INSTRUCTIONS}
    with (folder / "my-traffic.jsonl").open("w") as file:
        for text, answer in rows:
            turns = [system, {"role": "user", "content": text}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    request = ChatRequest(messages=[Message(**system), Message(role="user", content="")])
    found_id = instructions_id(request)
    home = folder / "home"
    importer, writer = open_importer(home), open_writer(home)
    writer.append(instructions_row(request, found_id, time.time()))
    started_s, last = time.time() - N_REQUESTS, ""
    for position, (text, answer) in enumerate(rows):
        last = request_id()
        writer.append(
            request_row(
                last,
                time_s=started_s + position,
                instructions_id=found_id,
                task_id=found_id,
                mode="observe",
                input=text,
                answer=answer,
                reference_answer=answer,
            )
        )
    writer.close()
    importer.close()
    return last
