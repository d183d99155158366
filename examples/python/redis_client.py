#!/usr/bin/python3
"""Publishes to and consumes from polyqueue's queues on Redis, with nothing but redis-py. See docs/wire-format.md.

    redis_client.py publish QUEUE BODY     a message to a queue that is declared
    redis_client.py consume QUEUE COUNT    takes and acknowledges messages, one JSON object a line

REDIS_URL says where the broker is, POLYQUEUE_NAMESPACE (default polyqueue) whose queues are meant.
"""
import json
import os
import pathlib
import re
import sys
import time
import uuid

import redis

NAMESPACE = os.environ.get("POLYQUEUE_NAMESPACE") or "polyqueue"
SCRIPTS = pathlib.Path(__file__).parents[2] / "backend-redis/src/scripts"


def assembled(part):
    """A file of the published scripts, with other files in place of the lines that name them."""
    text = (SCRIPTS / f"{part}.lua").read_text()
    return re.sub(r"^ *--- @include (\w+)\n", lambda found: assembled(found[1]), text, flags=re.M)


def script(name):
    """A published script, behind the first line that it needs: these two take messages out of a full server too."""
    return "#!lua flags=allow-oom\n" + assembled(name)


def prefix(queue):
    escaped = re.sub("[%{}:]", lambda found: f"%{ord(found[0]):02X}", queue)
    return f"{NAMESPACE}:{{{escaped}}}"


def keys(queue, count=21):
    """The first keys of a queue, in the order in which the scripts declare them."""
    names = [f"s:{priority}" for priority in range(1, 11)] + "q l w x k u d b i dlq p".split()
    return [f"{prefix(queue)}:{name}" for name in names[:count]]


def publish(broker, queue, body, priority=9):
    """Plain XADD: consumers see it within some seconds. The script `publish` wakes them at once."""
    if not broker.exists(f"{prefix(queue)}:q"):
        sys.exit(f"{queue} is not declared")
    message = {"data": body, "v": "1", "id": str(uuid.uuid4()), "t": str(int(time.time() * 1000)), "k": "greeting"}
    message["h"] = json.dumps({"language": "python"})
    broker.xadd(f"{prefix(queue)}:s:{priority}", message)
    print(message["id"])


def consume(broker, queue, count):
    claim, ack = script("claim"), script("ack")
    lease_ms, max_attempts, consumer = 30_000, 4, "python"
    while count > 0:
        nonce = uuid.uuid4().hex
        call = [min(count, 100), lease_ms, nonce, "", max_attempts, consumer]
        answer = broker.eval(claim, 21, *keys(queue), *call)
        if answer == 0 or len(answer) == 7:
            sys.exit(3)
        for priority, entry, most, flat in answer[7:]:
            fields = dict(zip(flat[::2], flat[1::2]))
            line = {"id": fields.get("id", entry), "kind": fields.get("k", ""), "attempt": int(fields.get("a", 0)) + 1}
            print(json.dumps({**line, "text": fields["data"]}, ensure_ascii=False))
            lease = f"{priority}:{entry}:{nonce}:{most}:{consumer}"
            if broker.eval(ack, 16, *keys(queue, 16), lease)[0] != 1:
                sys.exit(f"the lease of {entry} has ended")
            count -= 1


def main():
    verb, queue, rest = sys.argv[1], sys.argv[2], sys.argv[3]
    broker = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    if verb == "publish":
        publish(broker, queue, rest)
    elif verb == "consume":
        consume(broker, queue, int(rest))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
