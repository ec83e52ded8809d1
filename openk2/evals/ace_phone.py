"""The telephone of ACEBench's agent questions: messages, reminders, and ordering food.

In: who and what there is, in one language. Out: the pack's functions on it.
Must not know: models, questions, scores.

It behaves as the public one does (chenchen0103/ACEBench@56dd66c, `multi_step`); what is refused is
said in our words, in the telephone's language.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]


class Phone:
    """One telephone with everything on it."""

    def __init__(self, start: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Take what is on it, and whether it is on the net and logged in."""
        given = copy.deepcopy(dict(start))
        self._chinese = given["lang"] == "zh"
        self._wifi: bool = config.get("wifi", False)
        self._unlocked: bool = config.get("logged_in", True)
        self._accounts: dict[str, Json] = given["accounts"]
        self._merchants: dict[str, Json] = given["merchants"]
        self._logged_in: list[str] = []
        self._orders: list[Json] = []
        self._people: dict[str, Json] = given["people"]
        self._inbox: dict[int, Json] = {int(key): one for key, one in given["inbox"].items()}
        self._inbox_capacity: int = given["inbox_capacity"]
        self._last_message = len(self._inbox)
        self._reminders: dict[int, Json] = {int(k): one for k, one in given["reminders"].items()}
        self._reminder_capacity: int = given["reminder_capacity"]
        self._last_reminder: int = given["reminder_counter"]

    def state(self) -> dict[str, Json]:
        """Return what scoring compares, by the system's name in the pack."""
        return {
            "BaseApi": {"wifi": self._wifi, "logged_in": self._unlocked},
            "MessageApi": {"inbox": self._inbox},
            "ReminderApi": {"reminder_list": self._reminders},
            "FoodPlatform": {"users": self._accounts, "logged_in_users": self._logged_in,
                             "orders": self._orders},
        }  # fmt: skip

    def turn_on_wifi(self) -> Json:
        """Go on the net."""
        self._wifi = True
        return self._done("Wi-Fi is on", "Wi-Fi 已打开")

    def login_device(self) -> Json:
        """Unlock the telephone."""
        self._unlocked = True
        return self._done("logged in", "设备已登录")

    def send_message(self, sender_name: str, receiver_name: str, message: str) -> Json:
        """Send a message."""
        if refusal := self._offline():
            return refusal
        if len(self._inbox) >= self._inbox_capacity:
            return self._no("the inbox is full: ask which message to delete",
                            "短信已满，请询问用户要删除哪一条")  # fmt: skip
        if sender_name not in self._people or receiver_name not in self._people:
            return self._no("there is no such sender or receiver", "发送者或接收者不存在")
        self._last_message += 1
        sender, receiver = (self._people[name]["user_id"] for name in (sender_name, receiver_name))
        self._inbox[self._last_message] = {
            "sender_id": sender, "receiver_id": receiver, "message": message,
        }  # fmt: skip
        return self._done(f"sent to {receiver_name}", f"已发送给{receiver_name}")

    def delete_message(self, message_id: int) -> Json:
        """Delete a message."""
        if not self._unlocked:
            return self._locked()
        if message_id not in self._inbox:
            return self._no("there is no such message", "没有这条短信")
        del self._inbox[message_id]
        return self._done(f"message {message_id} is deleted", f"短信 {message_id} 已删除")

    def view_messages_between_users(self, sender_name: str, receiver_name: str) -> Json:
        """Show what one has written to another."""
        if not self._unlocked:
            return self._locked()
        if sender_name not in self._people or receiver_name not in self._people:
            return self._no("there is no such sender or receiver", "发送者或接收者不存在")
        pair = [self._people[name]["user_id"] for name in (sender_name, receiver_name)]
        found = [
            {"id": key, "sender": sender_name, "receiver": receiver_name, "message": one["message"]}
            for key, one in self._inbox.items()
            if [one["sender_id"], one["receiver_id"]] == pair
        ]
        return {"status": True, "messages": found} if found else self._nothing()

    def search_messages(self, user_name: str, keyword: str) -> Json:
        """Find messages from or to somebody by a word."""
        if user_name not in self._people:
            return self._no("there is no such user", "用户不存在")
        user = self._people[user_name]["user_id"]
        found = [
            {"id": key, **{part: one[part] for part in ("sender_id", "receiver_id", "message")}}
            for key, one in self._inbox.items()
            if user in (one["sender_id"], one["receiver_id"])
            and keyword.lower() in one["message"].lower()
        ]
        return {"status": True, "messages": found} if found else self._nothing()

    def get_all_message_times_with_ids(self) -> Json:
        """Say when each message came."""
        if not self._unlocked:
            return self._locked()
        return {str(key): one["time"] for key, one in self._inbox.items()}

    def get_latest_message_id(self) -> Json:
        """Find the newest message."""
        return self._extreme(newest=True)

    def get_earliest_message_id(self) -> Json:
        """Find the oldest message."""
        return self._extreme(newest=False)

    def view_reminder_by_title(self, title: str) -> Json:
        """Show a reminder."""
        if not self._unlocked:
            return self._locked()
        for one in self._reminders.values():
            if one["title"] == title:
                return {"status": True, "reminder": one}
        return self._nothing()

    def view_all_reminders(self) -> Json:
        """Show all reminders."""
        shown = ("title", "description", "time", "notified")
        found = [{part: one[part] for part in shown} for one in self._reminders.values()]
        return {"status": True, "reminders": found} if found else self._nothing()

    def add_reminder(self, title: str, description: str, time: str) -> Json:
        """Add a reminder."""
        if not self._unlocked:
            return self._locked()
        if len(self._reminders) >= self._reminder_capacity:
            return self._no("there is no room for a reminder", "提醒已满")
        self._last_reminder += 1
        self._reminders[self._last_reminder] = {
            "reminder_id": self._last_reminder, "title": title, "description": description,
            "time": time, "notified": False,
        }  # fmt: skip
        return self._done(f"added {title!r}", f"已添加提醒“{title}”")

    def delete_reminder(self, reminder_id: int) -> Json:
        """Delete a reminder."""
        if not self._unlocked:
            return self._locked()
        if reminder_id not in self._reminders:
            return self._no("there is no such reminder", "没有这条提醒")
        del self._reminders[reminder_id]
        return self._done(f"reminder {reminder_id} is deleted", f"提醒 {reminder_id} 已删除")

    def login_food_platform(self, username: str, password: str) -> Json:
        """Log in to order food."""
        if not self._wifi:
            return self._no("Wi-Fi is off", "Wi-Fi 未打开")
        if self._accounts.get(username, {}).get("password") != password:
            return self._no("name or password is wrong", "用户名或密码错误")
        if username in self._logged_in:
            return self._no(f"{username} is logged in already", f"{username} 已登录")
        self._logged_in.append(username)
        return self._done(f"{username} is logged in", f"{username} 登录成功")

    def view_logged_in_users(self) -> Json:
        """List who is logged in to order food."""
        if not self._logged_in:
            return self._nothing()
        return {"status": True, "logged_in_users": self._logged_in}

    def check_balance(self, user_name: str) -> float:
        """Show how much money somebody has; a stranger has none."""
        return self._accounts.get(user_name, {}).get("balance", 0.0)

    def get_products(self, merchant_name: str) -> Sequence[Json] | Json:
        """Show a menu."""
        if merchant_name not in self._merchants:
            return self._no("there is no such merchant", "没有这个商家")
        return self._merchants[merchant_name]["menu"]

    def add_food_delivery_order(
        self, username: str, merchant_name: str, items: Sequence[Mapping[str, Any]]
    ) -> Json:
        """Order and pay."""
        if username not in self._logged_in:
            return self._no(f"{username} is not logged in", f"{username} 未登录")
        if merchant_name not in self._merchants:
            return self._no("there is no such merchant", "没有这个商家")
        prices = {one["product"]: one["price"] for one in self._merchants[merchant_name]["menu"]}
        ordered: list[Json] = []
        for item in items:
            product, quantity = item.get("product"), item.get("quantity", 1)
            if not isinstance(quantity, int) or quantity <= 0:
                return self._no(f"{quantity} is no quantity", f"数量 {quantity} 无效")
            if product not in prices:
                return self._no(f"there is no {product} on the menu", f"菜单上没有{product}")
            ordered.append({"product": product, "quantity": quantity,
                            "price_per_unit": prices[product]})  # fmt: skip
        total = sum((one["price_per_unit"] * one["quantity"] for one in ordered), 0.0)
        account = self._accounts[username]
        # The Chinese telephone of the source also refuses to spend the last yuan.
        if total > account["balance"] or (self._chinese and total == account["balance"]):
            return self._no("there is not enough money", "余额不足")
        account["balance"] -= total
        order = {"user_name": username, "merchant_name": merchant_name, "items": ordered,
                 "total_price": total}  # fmt: skip
        self._orders.append(order)
        return self._done(f"ordered for {total} yuan", f"下单成功，共 {total} 元")

    def view_orders(self, user_name: str) -> Json:
        """Show somebody's orders."""
        found = [order for order in self._orders if order["user_name"] == user_name]
        return {"status": True, "orders": found} if found else self._nothing()

    def _extreme(self, *, newest: bool) -> Json:
        if not self._unlocked:
            return self._locked()
        if not self._inbox:
            return self._nothing()
        # A message that was sent just now has no time: the source fails on it, too.
        times = {key: one["time"] for key, one in self._inbox.items()}
        found = (max if newest else min)(times, key=lambda key: times[key])
        return {**self._done(f"it is message {found}", f"短信编号为 {found}"), "message_id": found}

    def _offline(self) -> Json | None:
        if not self._unlocked:
            return self._locked()
        return None if self._wifi else self._no("Wi-Fi is off", "Wi-Fi 未打开")

    def _locked(self) -> Json:
        return self._no("the device is not logged in", "设备未登录")

    def _nothing(self) -> Json:
        return self._no("nothing was found", "没有找到")

    def _done(self, english: str, chinese: str) -> Json:
        return {"status": True, "message": chinese if self._chinese else english}

    def _no(self, english: str, chinese: str) -> Json:
        return {"status": False, "message": chinese if self._chinese else english}
