"""A car: engine, doors, climate, brakes, and the way somewhere.

In: its starting state. Out: the pack's functions on it.
Must not know: other systems.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

from openk2.evals.bfcl_worlds.world import Config, Json, Refused

_TANK, _MILES_PER_GALLON, _FULL_FORCE = 50, 20.0, 1000.0
_ZIPCODES = {
    "Rivermist": "83214", "Stonebrook": "74532", "Maplecrest": "56108", "Silverpine": "62947",
    "Shadowridge": "71354", "Sunset Valley": "83462", "Oakendale": "47329", "Willowbend": "52013",
    "Crescent Hollow": "69238", "Autumnville": "51479", "San Francisco": "94016",
}  # fmt: skip
_DISTANCES = {
    frozenset(pair): miles
    for *pair, miles in (
        ("83214", "74532", 750.0), ("56108", "62947", 320.0), ("71354", "83462", 450.0),
        ("47329", "52013", 290.0), ("69238", "51479", 630.0), ("94016", "83214", 980.0),
        ("94016", "94704", 600.0), ("94704", "08540", 2550.0), ("94016", "08540", 1950.0),
        ("62947", "47329", 1053.0), ("94016", "62947", 780.0), ("74532", "94016", 880.0),
    )
}  # fmt: skip
_DOORS = ("driver", "passenger", "rear_left", "rear_right")
_TIRES = ("frontLeft", "frontRight", "rearLeft", "rearRight")


class VehicleControlAPI:
    """The car."""

    def __init__(self, config: Config) -> None:
        """Take the car as it stands."""
        given = copy.deepcopy(dict(config))
        self._random = random.Random(given.get("random_seed", 141053))
        self._fuel: float = given.get("fuelLevel", 0.0)
        self._battery: float = given.get("batteryVoltage", 12.6)
        self._engine: str = given.get("engineState", "stopped")
        self._doors: dict[str, str] = given.get("doorStatus", dict.fromkeys(_DOORS, "unlocked"))
        self._unlocked = 4 - sum(status == "locked" for status in self._doors.values())
        self._climate: Json = {
            "temperature": given.get("acTemperature", 25.0), "fan": given.get("fanSpeed", 50),
            "mode": given.get("acMode", "auto"), "humidity": given.get("humidityLevel", 50.0),
        }  # fmt: skip
        self._lights: str = given.get("headLightStatus", "off")
        self._parking: str = given.get("parkingBrakeStatus", "released")
        self._parking_force: float = given.get("parkingBrakeForce", 0.0)
        self._slope: float = given.get("slopeAngle", 0.0)
        self._pedal: str = given.get("brakePedalStatus", "released")
        self._pedal_force: float = given.get("brakePedalForce", 0.0)
        self._gap: float = given.get("distanceToNextVehicle", 50.0)
        self._cruise: str = given.get("cruiseStatus", "inactive")
        self._destination: str = given.get("destination", "None")
        default = dict(zip(_TIRES, (32.0, 32.0, 30.0, 30.0), strict=True))
        self._tires = {
            f"{place}TirePressure": given.get(f"{place}TirePressure", default[place])
            for place in _TIRES
        }

    def state(self) -> Any:
        """Return what can be seen of the car; forces cannot."""
        return (self._fuel, self._battery, self._engine, self._unlocked, self._doors, self._climate,
                self._lights, self._parking, self._pedal, self._gap, self._cruise,
                self._destination, self._tires)  # fmt: skip

    def startEngine(self, ignitionMode: str) -> Json:
        """Start the engine; STOP stops it, and is then refused as no way of starting."""
        if ignitionMode == "STOP":
            self._engine = "stopped"
        if self._unlocked > 0:
            doors = [door for door, status in self._doors.items() if status == "unlocked"]
            raise Refused(f"lock all doors before starting; unlocked are {', '.join(doors)}")
        if self._pedal != "pressed":
            raise Refused("press the brake pedal when starting the engine")
        if self._pedal_force != _FULL_FORCE:
            raise Refused("press the brake fully before starting the engine")
        if self._fuel < 0:
            raise Refused("there is no fuel")
        if ignitionMode != "START":
            raise Refused("the ignition mode is not START")
        self._engine = "running"
        return {"engineState": self._engine, "fuelLevel": self._fuel,
                "batteryVoltage": self._battery}  # fmt: skip

    def fillFuelTank(self, fuelAmount: float) -> Json:
        """Fill up."""
        if fuelAmount < 0:
            raise Refused("fuel is filled in, not taken out")
        if self._fuel + fuelAmount > _TANK:
            raise Refused("that is more than the tank holds")
        self._fuel += fuelAmount
        return {"fuelLevel": self._fuel}

    def lockDoors(self, unlock: bool, door: Sequence[str]) -> Json:
        """Lock or unlock doors."""
        wanted = "unlocked" if unlock else "locked"
        for one in door:
            if self._doors[one] != wanted:
                self._doors[one] = wanted
                self._unlocked += 1 if unlock else -1
        return {"lockStatus": wanted, "remainingUnlockedDoors": self._unlocked}

    def adjustClimateControl(
        self, temperature: float, unit: str = "celsius", fanSpeed: int = 50, mode: str = "auto"
    ) -> Json:
        """Set the climate."""
        if not 0 <= fanSpeed <= 100:
            raise Refused("a fan speed is 0 to 100")
        celsius = (temperature - 32) * 5 / 9 if unit == "fahrenheit" else temperature
        self._climate |= {"temperature": celsius, "fan": fanSpeed, "mode": mode}
        return {"currentACTemperature": temperature, "climateMode": mode,
                "humidityLevel": self._climate["humidity"]}  # fmt: skip

    def get_outside_temperature_from_google(self) -> Json:
        """Look up the weather."""
        return {"outsideTemperature": self._random.uniform(-10.0, 40.0)}

    def get_outside_temperature_from_weather_com(self) -> Json:
        """Look up the weather where it is never found."""
        return {"error": 404}

    def setHeadlights(self, mode: str) -> Json:
        """Switch the lights; auto is off."""
        if mode not in ("on", "off", "auto"):
            raise Refused("headlights are on, off or auto")
        self._lights = "on" if mode == "on" else "off"
        return {"headlightStatus": self._lights}

    def displayCarStatus(self, option: str) -> Json:
        """Show one part of the car."""
        climate = self._climate
        shown: dict[str, Json] = {
            "fuel": {"fuelLevel": self._fuel},
            "battery": {"batteryVoltage": self._battery},
            "doors": {"doorStatus": self._doors},
            "climate": {
                "currentACTemperature": climate["temperature"], "fanSpeed": climate["fan"],
                "climateMode": climate["mode"], "humidityLevel": climate["humidity"],
            },
            "headlights": {"headlightStatus": self._lights},
            "parkingBrake": {
                "parkingBrakeStatus": self._parking, "parkingBrakeForce": self._parking_force,
                "slopeAngle": self._slope,
            },
            "brakePedal": {"brakePedalStatus": self._pedal, "brakePedalForce": self._pedal_force},
            "engine": {"engineState": self._engine},
        }  # fmt: skip
        if option not in shown:
            raise Refused(f"there is no part {option!r}")
        return shown[option]

    def activateParkingBrake(self, mode: str) -> Json:
        """Engage or release the parking brake."""
        if mode not in ("engage", "release"):
            raise Refused("a parking brake is engaged or released")
        self._parking = f"{mode}d"
        self._parking_force = 500.0 if mode == "engage" else 0.0
        self._slope = 10.0
        return {"parkingBrakeStatus": self._parking, "_parkingBrakeForce": self._parking_force,
                "_slopeAngle": self._slope}  # fmt: skip

    def pressBrakePedal(self, pedalPosition: float) -> Json:
        """Press the brake so far."""
        if not 0 <= pedalPosition <= 1:
            raise Refused("a pedal's position is 0 to 1")
        if pedalPosition == 0:
            return self.releaseBrakePedal()
        self._pedal, self._pedal_force = "pressed", pedalPosition * 1000
        return {"brakePedalStatus": "pressed", "brakePedalForce": float(self._pedal_force)}

    def releaseBrakePedal(self) -> Json:
        """Let the brake go."""
        self._pedal, self._pedal_force = "released", 0.0
        return {"brakePedalStatus": "released", "brakePedalForce": 0.0}

    def setCruiseControl(self, speed: float, activate: bool, distanceToNextVehicle: float) -> Json:
        """Keep a speed and a distance."""
        speed, gap = float(speed), float(distanceToNextVehicle)
        if self._engine == "stopped":
            raise Refused("start the engine before the cruise control")
        self._gap = gap
        if activate and (not 0 <= speed <= 120 or speed % 5 != 0):
            raise Refused("a speed is a multiple of 5 up to 120")
        self._cruise = "active" if activate else "inactive"
        return {"cruiseStatus": self._cruise, "currentSpeed": speed, "distanceToNextVehicle": gap}

    def get_current_speed(self) -> Json:
        """Measure the speed, which is any."""
        return {"currentSpeed": self._random.uniform(0.0, 120.0)}

    def display_log(self, messages: Sequence[str]) -> Json:
        """Show messages."""
        return {"log": messages}

    def estimate_drive_feasibility_by_mileage(self, distance: float) -> Json:
        """Say whether the fuel is enough."""
        return {"canDrive": self._fuel * _MILES_PER_GALLON >= distance}

    def liter_to_gallon(self, liter: float) -> Json:
        """Convert."""
        return {"gallon": liter * 0.264172}

    def gallon_to_liter(self, gallon: float) -> Json:
        """Convert."""
        return {"liter": gallon * 3.78541}

    def estimate_distance(self, cityA: str, cityB: str) -> Json:
        """Measure the way between two zip codes."""
        pair = frozenset((cityA, cityB))
        if pair not in _DISTANCES:
            raise Refused("the distance is not known")
        return {"distance": _DISTANCES[pair]}

    def get_zipcode_based_on_city(self, city: str) -> Json:
        """Find a city's zip code."""
        return {"zipcode": _ZIPCODES.get(city, "00000")}

    def set_navigation(self, destination: str) -> Json:
        """Set where to go."""
        self._destination = destination
        return {"status": f"Navigating to {destination}"}

    def check_tire_pressure(self) -> Json:
        """Measure the tires."""
        healthy = 30 <= sum(self._tires.values()) / 4 <= 35
        return {**self._tires, "healthy_tire_pressure": healthy, "car_info": {}}

    def find_nearest_tire_shop(self) -> Json:
        """Find the one there is."""
        return {"shopLocation": "456 Oakwood Avenue, Rivermist, 83214"}
