#!/usr/bin/env python3
"""An external comparator for understudy: compares the total of an order, in cents.

Protocol: docs/comparator.md. One line of JSON comes in for each exchange, one goes out.
"""

import json
import sys


def total_cents(answer):
    """The total of an order in cents; None where the answer is no order."""
    try:
        order = json.loads(answer["body"].get("text") or "null")
        return sum(round(item["price"] * 100) * item["count"] for item in order["items"])
    except (KeyError, TypeError, ValueError):
        return None


def differences(question):
    control = total_cents(question["control"])
    candidate = total_cents(question["candidate"])
    if control != candidate:
        yield {"path": "order total", "kind": "value", "control": control, "candidate": candidate}


for line in sys.stdin:
    question = json.loads(line)
    answer = {"id": question["id"]}
    try:
        answer["differences"] = list(differences(question))
    except Exception as error:  # Whatever it is, this exchange alone is not compared.
        answer["error"] = repr(error)
    print(json.dumps(answer), flush=True)
