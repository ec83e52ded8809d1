"""An account at a stock broker.

In: its starting state. Out: the pack's functions on it.
Must not know: other systems; real prices.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from openk2.evals.bfcl_worlds.world import Config, Json, Refused

_NOW = datetime(2024, 9, 1, 10, 30)
_SECONDS = "%Y-%m-%d %H:%M:%S"
_SYMBOLS = {
    "Apple": "AAPL", "Google": "GOOG", "Tesla": "TSLA", "Microsoft": "MSFT", "Nvidia": "NVDA",
    "Zeta Corp": "ZETA", "Alpha Tech": "ALPH", "Omega Industries": "OMEG", "Quasar Ltd.": "QUAS",
    "Neptune Systems": "NEPT", "Synex Solutions": "SYNX", "Amazon": "AMZN", "Gorilla": "GORI",
}  # fmt: skip
_SECTORS = {"Technology": ["AAPL", "GOOG", "MSFT", "NVDA"], "Automobile": ["TSLA", "F", "GM"]}
_QUOTES = (
    ("AAPL", 227.16, 0.17, 2.552, 227.11, 227.09), ("GOOG", 2840.34, 0.24, 1.123, 2835.67, 2842.15),
    ("TSLA", 667.92, -0.12, 1.654, 671.15, 668.2), ("MSFT", 310.23, 0.09, 3.234, 309.88, 310.11),
    ("NVDA", 220.34, 0.34, 1.234, 220.45, 220.67),
    ("ALPH", 1320.45, -0.08, 1.567, 1321.12, 1325.78),
    ("OMEG", 457.23, 0.12, 2.345, 456.78, 458.12), ("QUAS", 725.89, -0.03, 1.789, 726.45, 728.0),
    ("NEPT", 88.34, 0.19, 0.654, 88.21, 88.67), ("SYNX", 345.67, 0.11, 2.112, 345.34, 346.12),
    ("ZETA", 22.09, -0.05, 0.789, 22.12, 22.34),
)  # fmt: skip
_COLUMNS = ("price", "percent_change", "volume", "MA(5)", "MA(20)")
_ORDERS = (
    {"id": 12345, "order_type": "Buy", "symbol": "AAPL", "price": 210.65, "amount": 10,
     "status": "Completed"},
    {"id": 12446, "order_type": "Sell", "symbol": "GOOG", "price": 2840.56, "amount": 5,
     "status": "Pending"},
)  # fmt: skip


class TradingBot:
    """The account."""

    def __init__(self, config: Config) -> None:
        """Take the account, its orders and the market."""
        given = copy.deepcopy(dict(config))
        orders: dict[Any, Json] = given.get("orders", {one["id"]: dict(one) for one in _ORDERS})
        self._orders = {_number(key): order for key, order in orders.items()}
        self._account: Json = given.get(
            "account_info",
            {"account_id": 12345, "balance": 10000.0, "binding_card": 1974202140965533},
        )
        self._in: bool = given.get("authenticated", False)
        self._market: str = given.get("market_status", "Closed")
        self._counter: int = given.get("order_counter", 12446)
        self._stocks: dict[str, Json] = given.get(
            "stocks",
            {name: dict(zip(_COLUMNS, quote, strict=True)) for name, *quote in _QUOTES},
        )
        self._watched: list[str] = given.get("watch_list", ["NVDA"])
        self._history: list[Json] = given.get("transaction_history", [])
        self._random = random.Random(given.get("random_seed", 1053520))

    def state(self) -> Any:
        """Return the account, its orders and the market."""
        return (self._orders, self._account, self._in, self._market, self._counter, self._stocks,
                self._watched, self._history)  # fmt: skip

    def get_current_time(self) -> Json:
        """Say what time it is there."""
        return {"current_time": _NOW.strftime("%I:%M %p")}

    def get_symbol_by_name(self, name: str) -> Json:
        """Find a company's symbol."""
        return {"symbol": _SYMBOLS.get(name, "Stock not found")}

    def get_stock_info(self, symbol: str) -> Json:
        """Show a quote."""
        if symbol not in self._stocks:
            raise Refused(f"there is no stock {symbol!r}")
        return self._stocks[symbol]

    def get_order_details(self, order_id: int) -> Json:
        """Show an order."""
        if order_id not in self._orders:
            raise Refused(f"there is no order {order_id}; there are {list(self._orders)}")
        return self._orders[order_id]

    def cancel_order(self, order_id: int) -> Json:
        """Cancel an order."""
        if order_id not in self._orders:
            raise Refused(f"there is no order {order_id} to cancel")
        if self._orders[order_id]["status"] == "Completed":
            raise Refused(f"order {order_id} is completed")
        self._orders[order_id]["status"] = "Cancelled"
        return {"order_id": order_id, "status": "Cancelled"}

    def place_order(self, order_type: str, symbol: str, price: float, amount: int) -> Json:
        """Order."""
        self._logged_in("place an order")
        if symbol not in self._stocks:
            raise Refused(f"{symbol} is no stock symbol")
        if price <= 0 or amount <= 0:
            raise Refused("price and amount are positive")
        balance = self._account.get("balance", 0)
        cost = float(price) * int(amount)
        if order_type.lower() == "buy" and cost > balance:
            raise Refused(f"that costs ${cost:.2f}, and there are ${balance:.2f}")
        order_id, price = self._counter, float(price)
        terms = {"order_type": order_type, "symbol": symbol, "price": price, "amount": amount}
        self._orders[order_id] = {"id": order_id, **terms, "status": "Open"}
        self._counter += 1
        return {"order_id": order_id, "order_type": order_type, "status": "Pending", "price": price,
                "amount": amount}  # fmt: skip

    def withdraw_funds(self, amount: float) -> Json:
        """Take money out."""
        self._logged_in("make a transaction")
        if self._market != "Open":
            raise Refused("the market is closed")
        if amount <= 0:
            raise Refused("an amount is positive")
        if amount > self._account["balance"]:
            raise Refused("there is not so much money")
        self._move(-amount, "withdrawal", amount)
        return {"status": "Withdrawal successful", "new_balance": self._account["balance"]}

    def fund_account(self, amount: float) -> Json:
        """Put money in."""
        self._logged_in("fund the account")
        if amount <= 0:
            raise Refused("what is put in is positive")
        self._move(amount, "deposit", amount)
        return {"status": "Account funded successfully", "new_balance": self._account["balance"]}

    def get_account_info(self) -> Json:
        """Show the account."""
        self._logged_in("view account information")
        return self._account

    def trading_login(self, username: str, password: str) -> Json:
        """Log in; any name and word will do."""
        was, self._in = self._in, True
        return {"status": "Already logged in" if was else "Logged in successfully"}

    def trading_get_login_status(self) -> Json:
        """Say whether one is logged in."""
        return {"status": bool(self._in)}

    def trading_logout(self) -> Json:
        """Log out."""
        was, self._in = self._in, False
        return {"status": "Logged out successfully" if was else "No user is currently logged in"}

    def remove_stock_from_watchlist(self, symbol: str) -> Json:
        """Watch a stock no more."""
        self._logged_in("modify the watchlist")
        if symbol not in self._watched:
            raise Refused(f"{symbol} is not watched")
        self._watched.remove(symbol)
        return {"status": f"Stock {symbol} removed from watchlist successfully."}

    def get_watchlist(self) -> Json:
        """List what is watched."""
        self._logged_in("view the watchlist")
        return {"watchlist": self._watched}

    def add_to_watchlist(self, stock: str) -> Json:
        """Watch a stock."""
        if stock in self._stocks and stock not in self._watched:
            self._watched.append(stock)
        return {"watchlist": self._watched}

    def get_order_history(self) -> Json:
        """List the orders."""
        self._logged_in("view the order history")
        return {"history": list(self._orders)}

    def get_transaction_history(
        self, start_date: str | None = None, end_date: str | None = None
    ) -> Json:
        """List transactions of some days."""
        self._logged_in("view the transaction history")
        start = datetime.strptime(start_date, "%Y-%m-%d") if start_date else datetime.min
        end = datetime.strptime(end_date, "%Y-%m-%d") if end_date else datetime.max
        found = [
            one
            for one in self._history
            if start <= datetime.strptime(one["timestamp"], _SECONDS) <= end
        ]
        return {"transaction_history": found}

    def get_available_stocks(self, sector: str) -> Json:
        """List a sector's stocks."""
        return {"stock_list": _SECTORS.get(sector, [])}

    def filter_stocks_by_price(
        self, stocks: Sequence[str], min_price: float, max_price: float
    ) -> Json:
        """Keep the stocks of some prices; one that is unknown costs nothing."""
        prices = {name: self._stocks.get(name, {}).get("price", 0) for name in stocks}
        return {"filtered_stocks": [one for one in stocks if min_price <= prices[one] <= max_price]}

    def notify_price_change(self, stocks: Sequence[str], threshold: float) -> Json:
        """Name the stocks that changed much."""
        known = [name for name in stocks if name in self._stocks]
        moved = [one for one in known if abs(self._stocks[one]["percent_change"]) >= threshold]
        if not moved:
            return {"notification": "No significant price changes in the selected stocks."}
        return {"notification": f"Stocks {', '.join(moved)} have significant price changes."}

    def _logged_in(self, what: str) -> None:
        if not self._in:
            raise Refused(f"log in to {what}")

    def _move(self, change: float, kind: str, amount: float) -> None:
        self._account["balance"] += change
        first, last = (int(t.timestamp()) for t in (_NOW, _NOW + timedelta(days=1)))
        moment = datetime.fromtimestamp(self._random.randint(first, last))
        entry = {"type": kind, "amount": amount, "timestamp": moment.strftime(_SECONDS)}
        self._history.append(entry)


def _number(key: Any) -> Any:
    return int(key) if isinstance(key, str) and key.isdigit() else key
