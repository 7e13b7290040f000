import base64
from dataclasses import dataclass

import functions_framework


@dataclass
class Order:
    item: str
    count: int

    @staticmethod
    def from_dict(order):
        return Order(order["item"], int(order["count"]))

    def to_dict(self):
        return {"item": self.item, "count": self.count}


@functions_framework.typed
def ordered(order: Order):
    """Takes JSON as an object, and answers with one."""
    print(f"{order.count} of {order.item}")
    return Order(order.item.upper(), order.count)


@functions_framework.cloud_event
def published(event):
    """A message of a topic, as a CloudEvent."""
    text = base64.b64decode(event.data["message"]["data"]).decode()
    print(f"{event['id']}: {text}")


def received(message, context):
    """The same message, to a background function of before CloudEvents."""
    text = base64.b64decode(message["data"]).decode()
    print(f"{context.event_type} {context.event_id}: {text}")


@functions_framework.cloud_event
def shipped(event):
    """An event of one's own. One that names nobody is tried again, and is a dead letter then."""
    if not event.data.get("customer"):
        raise ValueError("shipped to nobody")
    print(f"shipped to {event.data['customer']}")
