"""Hears of large orders: an event of EventBridge's that a pattern has let through."""


def handler(event, context):
    order = event["detail"]
    print(f"{order['customer']} has ordered for {order['total']}")
    return {"discount": round(order["total"] / 10)}
