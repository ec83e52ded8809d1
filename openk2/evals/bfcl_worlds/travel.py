"""A travel agency: flights, cards, budgets, insurance.

In: its starting state. Out: the pack's functions on it.
Must not know: other systems; real flights.
"""

from __future__ import annotations

import copy
import random
from datetime import date, datetime
from typing import Any

from openk2.evals.bfcl_worlds.world import Config, Json, Refused

_FARES = {
    "SFO": "LAX 200 JFK 500 ORD 400 BOS 450 RMS 300 SBK 350 MPC 370 SVP 320 SHD 330 SSV 340 OKD "
    "360 WLB 310 CRH 380 ATV 390 PHV 420 GFD 430 CIA 700",
    "LAX": "SFO 100 JFK 600 ORD 500 BOS 550 RMS 310 SBK 320 MPC 330 SVP 340 SHD 350 SSV 360 OKD "
    "370 WLB 380 CRH 390 ATV 400 PHV 410 GFD 420 HND 430",
    "JFK": "ORD 300 BOS 250 RMS 450 SBK 460 MPC 470 SVP 480 SHD 490 SSV 500 OKD 510 WLB 520 CRH "
    "530 ATV 540 PHV 550 GFD 560 LAX 570 HND 800 PVG 950 PEK 1000",
    "ORD": "LAX 180 BOS 200 RMS 350 SBK 360 MPC 370 SVP 380 SHD 390 SSV 400 OKD 410 WLB 420 CRH "
    "430 ATV 440 PHV 450 GFD 460",
    "BOS": "RMS 400 SBK 410 MPC 420 SVP 430 SHD 440 SSV 450 OKD 460 WLB 470 CRH 480 ATV 490 PHV "
    "500 GFD 510",
    "RMS": "BOS 200 JFK 210 SBK 220 MPC 230 SVP 240 SHD 250 SSV 260 OKD 270 WLB 280 CRH 290 ATV "
    "300 PHV 310 GFD 320 LAX 330",
    "SBK": "MPC 200 SVP 210 SHD 220 SSV 230 OKD 240 WLB 250 CRH 260 ATV 270 PHV 280 GFD 290",
    "MPC": "SVP 210 SHD 220 SSV 230 OKD 240 WLB 250 CRH 260 ATV 270 PHV 280 GFD 290",
    "SVP": "SHD 230 SSV 240 OKD 250 WLB 260 CRH 270 ATV 280 PHV 290 GFD 300",
    "SHD": "SSV 220 OKD 230 WLB 240 CRH 250 ATV 260 PHV 270 GFD 280",
    "SSV": "OKD 240 WLB 250 CRH 260 ATV 270 PHV 280 GFD 290",
    "OKD": "WLB 230 CRH 240 ATV 250 PHV 260 GFD 270 LAX 220",
    "WLB": "CRH 250 ATV 260 PHV 270 GFD 280",
    "CRH": "ATV 240 PHV 250 GFD 260 SFO 270 RMS 280 HKG 290 JFK 300",
    "ATV": "PHV 230 GFD 240",
    "PHV": "GFD 220",
    "LHR": "CDG 100",
}  # fmt: skip
"""From where: to where, and what economy costs on an odd day."""
_PRICES = {
    (start, end): int(fare)
    for start, line in _FARES.items()
    for end, fare in zip(line.split()[::2], line.split()[1::2], strict=True)
}
_CLASSES = {"economy": 1, "business": 2, "first": 5}
_AIRPORTS = {
    "Rivermist": "RMS", "Stonebrook": "SBK", "Maplecrest": "MPC", "Silverpine": "SVP",
    "Shadowridge": "SHD", "Paris": "CDG", "London": "LHR", "Sunset Valley": "SSV",
    "Oakendale": "OKD", "Willowbend": "WLB", "Beijing": "PEK", "Tokyo": "HND", "Hong Kong": "HKG",
    "Rome": "CIA", "Crescent Hollow": "CRH", "Autumnville": "ATV", "Pinehaven": "PHV",
    "Greenfield": "GFD", "San Francisco": "SFO", "Los Angeles": "LAX", "New York": "JFK",
    "Chicago": "ORD", "Boston": "BOS",
}  # fmt: skip
_RATES = {"RMB": 7, "EUR": 0.8, "JPY": 110, "GBP": 0.7, "CAD": 1.3, "AUD": 1.4, "INR": 70,
          "RUB": 60, "BRL": 3.8, "MXN": 20}  # fmt: skip
_INVOICED = ("travel_date", "travel_from", "travel_to", "travel_class", "travel_cost",
             "transaction_id")  # fmt: skip


class TravelAPI:
    """The agency."""

    def __init__(self, config: Config) -> None:
        """Take cards, bookings and who is logged in."""
        given = copy.deepcopy(dict(config))
        self._random = random.Random(given.get("random_seed", 141053))
        self._cards: dict[str, Json] = given.get("credit_card_list", {})
        self._bookings: dict[str, Json] = given.get("booking_record", {})
        self._token: str | None = given.get("access_token")
        self._token_type: str | None = given.get("token_type")
        self._expires: int | None = given.get("token_expires_in")
        self._scope: str | None = given.get("token_scope")
        self._first: str | None = given.get("user_first_name")
        self._last: str | None = given.get("user_last_name")
        self._budget: float | None = given.get("budget_limit")

    def state(self) -> Any:
        """Return cards, bookings and who is logged in."""
        return (self._cards, self._bookings, self._token, self._token_type, self._expires,
                self._scope, self._first, self._last, self._budget)  # fmt: skip

    def authenticate_travel(
        self,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        grant_type: str,
        user_first_name: str,
        user_last_name: str,
    ) -> Json:
        """Log in; anybody may."""
        self._expires, self._token_type, self._scope = 2, "Bearer", grant_type
        self._token = str(self._random.randint(100000, 999999))
        self._first, self._last = user_first_name, user_last_name
        return {"expires_in": 2, "access_token": self._token, "token_type": "Bearer",
                "scope": grant_type}  # fmt: skip

    def travel_get_login_status(self) -> Json:
        """Say whether somebody is logged in."""
        return {"status": bool(self._expires)}

    def get_budget_fiscal_year(
        self, lastModifiedAfter: str | None = None, includeRemoved: str | None = None
    ) -> Json:
        """Say which year the budget is of."""
        return {"budget_fiscal_year": "2018"}

    def register_credit_card(
        self,
        access_token: str,
        card_number: str,
        expiration_date: str,
        cardholder_name: str,
        card_verification_number: int,
    ) -> Json:
        """Add a card, with any balance."""
        if self._expires is None:
            raise Refused("there is no token yet")
        self._check_token(access_token)
        if card_number in self._cards:
            raise Refused("the card is registered already")
        card_id = str(self._random.randint(100000000000, 999999999999))
        self._cards[card_id] = {
            "card_number": card_number, "expiration_date": expiration_date,
            "cardholder_name": cardholder_name,
            "card_verification_number": card_verification_number,
            "balance": self._random.randint(10000, 99999),
        }  # fmt: skip
        return {"card_id": card_id}

    def get_flight_cost(
        self, travel_from: str, travel_to: str, travel_date: str, travel_class: str
    ) -> Json:
        """Price a flight."""
        return {"travel_cost_list": [_cost(travel_from, travel_to, travel_date, travel_class)]}

    def get_credit_card_balance(self, access_token: str, card_id: str) -> Json:
        """Show a card's balance."""
        self._check_token(access_token)
        if card_id not in self._cards:
            raise Refused(f"the card is not registered; there are {list(self._cards)}")
        return {"card_balance": self._cards[card_id]["balance"]}

    def book_flight(
        self,
        access_token: str,
        card_id: str,
        travel_date: str,
        travel_from: str,
        travel_to: str,
        travel_class: str,
    ) -> Json:
        """Book and pay."""
        try:
            self._check_token(access_token)
            self._check_card(card_id)
            cost = _checked_cost(travel_from, travel_to, travel_date, travel_class)
            balance: float = self._cards[card_id]["balance"]
            if balance < cost:
                raise Refused("there is not so much money on the card")
            if self._budget is not None and balance < self._budget:
                raise Refused("the card has less than the budget limit")
        except (Refused, ValueError) as error:
            return {"booking_status": False, "error": str(error)}
        self._cards[card_id]["balance"] -= cost
        booking_id = str(self._random.randint(1000000, 9999999))
        transaction_id = str(self._random.randint(10000000, 99999999))
        self._bookings[booking_id] = {
            "card_id": card_id, "travel_date": travel_date, "travel_from": travel_from,
            "travel_to": travel_to, "travel_class": travel_class, "travel_cost": cost,
            "transaction_id": transaction_id,
        }  # fmt: skip
        return {"booking_id": booking_id, "transaction_id": transaction_id, "booking_status": True,
                "booking_history": {}}  # fmt: skip

    def retrieve_invoice(
        self, access_token: str, booking_id: str | None = None, insurance_id: str | None = None
    ) -> Json:
        """Show what a booking cost."""
        self._check_token(access_token)
        booking = self._booking(booking_id)
        return {"invoice": {"booking_id": booking_id, **{key: booking[key] for key in _INVOICED}}}

    def get_booking_history(self, access_token: str) -> Json:
        """Show all bookings."""
        self._check_token(access_token)
        return {"booking_history": copy.deepcopy(self._bookings)}

    def list_all_airports(self) -> list[str]:
        """List the airports."""
        return list(_AIRPORTS.values())

    def cancel_booking(self, access_token: str, booking_id: str) -> Json:
        """Cancel, and get the money back."""
        try:
            self._check_token(access_token)
            booking = self._booking(booking_id)
        except Refused as error:
            return {"cancel_status": False, "error": str(error)}
        self._cards[booking["card_id"]]["balance"] += booking["travel_cost"]
        del self._bookings[booking_id]
        return {"cancel_status": True}

    def compute_exchange_rate(self, base_currency: str, target_currency: str, value: float) -> Json:
        """Change dollars into something else, or back."""
        if base_currency == "USD" and target_currency in _RATES:
            return {"exchanged_value": float(value * _RATES[target_currency])}
        if target_currency == "USD" and base_currency in _RATES:
            return {"exchanged_value": round(value / _RATES[base_currency], 2)}
        raise ValueError("there is no rate for these currencies")

    def verify_traveler_information(
        self, first_name: str, last_name: str, date_of_birth: str, passport_number: str
    ) -> Json:
        """Check who travels."""
        reason = self._unfit(first_name, last_name, date_of_birth, passport_number)
        if reason:
            return {"verification_status": False, "verification_failure": reason}
        return {"verification_status": True}

    def set_budget_limit(self, access_token: str, budget_limit: float) -> Json:
        """Set a limit."""
        self._check_token(access_token)
        self._budget = float(budget_limit)
        return {"budget_limit": self._budget}

    def get_nearest_airport_by_city(self, location: str) -> Json:
        """Find a city's airport."""
        return {"nearest_airport": _AIRPORTS.get(location, "Unknown")}

    def purchase_insurance(
        self,
        access_token: str,
        insurance_type: str,
        booking_id: str,
        insurance_cost: float,
        card_id: str,
    ) -> Json:
        """Insure a booking."""
        try:
            self._check_token(access_token)
            if self._budget is not None and self._budget < insurance_cost:
                raise Refused("that is more than the budget limit")
            self._booking(booking_id)
            if card_id not in self._cards:
                raise Refused("the card is not registered")
        except Refused as error:
            return {"insurance_status": False, "error": str(error)}
        self._cards[card_id]["balance"] -= insurance_cost
        insurance_id = str(self._random.randint(100000000, 999999999))
        return {"insurance_id": insurance_id, "insurance_status": True}

    def contact_customer_support(self, booking_id: str, message: str) -> Json:
        """Write to support."""
        self._booking(booking_id)
        said = "Thank you for contacting customer support. Your message has been received and we "
        return {"customer_support_message": said + "will get back to you shortly."}

    def get_all_credit_cards(self) -> Json:
        """Show all cards."""
        return {"credit_card_list": self._cards}

    def _check_token(self, token: str) -> None:
        if self._expires == 0:
            raise Refused("the token has expired")
        if token != self._token:
            raise Refused("the access token is not valid")

    def _check_card(self, card_id: str) -> None:
        if card_id not in self._cards:
            raise Refused("the card is not registered")
        if "balance" not in self._cards[card_id]:
            raise Refused("the card's balance is not known")

    def _booking(self, booking_id: str | None) -> Json:
        if booking_id is None or booking_id not in self._bookings:
            raise Refused("there is no such booking")
        return self._bookings[booking_id]

    def _unfit(self, first: str, last: str, born: str, passport: str) -> str:
        if (self._first, self._last) != (first, last):
            return f"flights are booked for {self._first} {self._last}, not for {first} {last}"
        try:
            birth, today = datetime.strptime(born, "%Y-%m-%d").date(), date.today()
        except ValueError:
            return "a date of birth is written YYYY-MM-DD"
        had = (today.month, today.day) >= (birth.month, birth.day)
        if today.year - birth.year - (not had) < 18:
            return "a traveler is at least 18 years old"
        return "" if passport.startswith("US") else "the passport is not of the United States"


def _checked_cost(start: str, end: str, day: str, travel_class: str) -> float:
    for airport in (start, end):
        if airport not in _AIRPORTS.values():
            raise Refused(f"{airport} is no airport")
    try:
        datetime.strptime(day, "%Y-%m-%d")
    except ValueError:
        raise Refused("a date is written YYYY-MM-DD") from None
    return _cost(start, end, day, travel_class)


def _cost(start: str, end: str, day: str, travel_class: str) -> float:
    if (start, end) not in _PRICES:
        raise ValueError("there is no route between these airports")
    if travel_class not in _CLASSES:
        raise ValueError(f"a travel class is one of {', '.join(_CLASSES)}")
    digits = sum(int(sign) for sign in day if sign.isdigit())
    return float(_PRICES[start, end] * _CLASSES[travel_class] * (2 if digits % 2 == 0 else 1))
