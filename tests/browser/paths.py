"""Every page of the dashboard, with its heading in the usual world."""

from __future__ import annotations

PAGES = {
    "overview": ("/", "Overview"),
    "queue": ("/queues/default", "default"),
    "tasks": ("/tasks", "Tasks"),
    "task": ("/tasks/01J9ZK3V7Q8M2N4P000000", "shop.orders.charge"),
    "failed-task": ("/tasks/dead-0001", "shop.orders.charge"),
    "dead": ("/dead", "Dead letters"),
    "schedules": ("/schedules", "Schedules"),
    "workers": ("/workers", "Workers"),
    "keys": ("/keys", "Keys"),
    "autoscalers": ("/autoscaler", "Autoscaler"),
    "autoscaler": ("/autoscaler/shop/orders", "shop/orders"),
    "audit": ("/audit", "Audit"),
}
