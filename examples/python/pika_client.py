#!/usr/bin/python3
"""Publishes to and consumes from polyqueue's queues on RabbitMQ, with nothing but pika. See docs/wire-format.md.

    pika_client.py publish QUEUE BODY     a message to a queue that is declared
    pika_client.py topic KEY BODY         a message to every queue that is bound to this routing key
    pika_client.py consume QUEUE COUNT    takes and acknowledges messages, one JSON object a line
    pika_client.py ask QUEUE BODY         a request, answered by direct reply-to

RABBITMQ_URL says where the broker is, POLYQUEUE_NAMESPACE (default polyqueue) whose queues are meant.
"""
import json
import os
import sys
import time
import uuid

import pika

TIMEOUT = 20
NAMESPACE = os.environ.get("POLYQUEUE_NAMESPACE") or "polyqueue"


def properties(**more):
    now = time.time()
    headers = {"x-pq-v": 1, "x-pq-at": int(now * 1000), "language": "python"}
    return pika.BasicProperties(
        message_id=str(uuid.uuid4()), type="greeting", priority=9, delivery_mode=2, timestamp=int(now), headers=headers, **more
    )


def publish(channel, exchange, key, body):
    """Confirmed and mandatory: it raises when no queue is there, and the broker has the message when it does not."""
    channel.confirm_delivery()
    message = properties()
    channel.basic_publish(exchange, key, body.encode(), message, mandatory=True)
    print(message.message_id)


def consume(channel, queue, count):
    for _ in range(count):
        method, message, body = channel.basic_get(f"{NAMESPACE}.q.{queue}")
        if method is None:
            sys.exit(3)
        headers = message.headers or {}
        # One more than what stands there when a reader before us died with the message in its hands.
        attempt = headers.get("x-pq-attempt", 1) + (1 if method.redelivered else 0)
        line = {"id": message.message_id, "kind": message.type, "attempt": attempt, "text": body.decode()}
        print(json.dumps(line, ensure_ascii=False))
        channel.basic_ack(method.delivery_tag)


def ask(channel, queue, body):
    replies = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *reply: replies.append(reply), auto_ack=True)
    request = properties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(uuid.uuid4()))
    channel.basic_publish("", f"{NAMESPACE}.q.{queue}", body.encode(), request)
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        channel.connection.process_data_events(time_limit=0.1)
        for _, _, message, reply in replies:
            if message.correlation_id == request.correlation_id:
                print(json.dumps({"kind": message.type, "text": reply.decode()}, ensure_ascii=False))
                return
    sys.exit(f"no reply within {TIMEOUT} seconds")


def main():
    verb, name, rest = sys.argv[1], sys.argv[2], sys.argv[3]
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"]))
    channel = connection.channel()
    if verb == "publish":
        publish(channel, "", f"{NAMESPACE}.q.{name}", rest)
    elif verb == "topic":
        publish(channel, f"{NAMESPACE}.topics", name, rest)
    elif verb == "consume":
        consume(channel, name, int(rest))
    elif verb == "ask":
        ask(channel, name, rest)
    else:
        sys.exit(__doc__)
    connection.close()


if __name__ == "__main__":
    main()
