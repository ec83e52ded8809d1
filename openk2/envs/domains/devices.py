"""A smart home: rooms, devices, scenes and schedules."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Json, Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

RoomId = Annotated[str, Slot("room_id", "room id", "房间编号", "id", entity="rooms")]
DeviceId = Annotated[str, Slot("device_id", "device id", "设备编号", "id", entity="devices")]
SceneId = Annotated[str, Slot("scene_id", "scene id", "场景编号", "id", entity="scenes")]
PlanId = Annotated[str, Slot("plan_id", "schedule id", "定时编号", "id", entity="plans")]
RoomName = Annotated[str, Slot("room_name", "room", "房间")]
Label = Annotated[str, Slot("label", "name of the device", "设备名称")]
KindName = Literal["light", "plug", "thermostat", "lock", "blind"]
Kind = Annotated[KindName, Slot("kind", "kind of device", "设备类型")]
SceneName = Annotated[str, Slot("scene_name", "name of the scene", "场景名称")]
PowerName = Literal["on", "off"]
Power = Annotated[PowerName, Slot("power", "state (on or off)", "开关状态")]
PERCENT = {"minimum": 1, "maximum": 100}
Level = Annotated[int, Slot("level", "brightness in percent", "亮度百分比", schema=PERCENT)]
Degrees = Annotated[
    int, Slot("degrees", "degrees Celsius", "摄氏温度", schema={"minimum": 5, "maximum": 30})
]
At = Annotated[str, Slot("at", "time of day", "时刻", "time")]
DaysName = Literal["every_day", "weekdays", "weekend"]
Days = Annotated[DaysName, Slot("days", "days of the week", "重复日")]
Hours = Annotated[int, Slot("hours", "number of hours", "小时数", "count")]


@dataclass(frozen=True, slots=True)
class Room:
    """A part of the home."""

    id: RoomId
    room_name: RoomName


@dataclass(frozen=True, slots=True)
class Device:
    """Something that can be switched; `value` is a light's percent or a thermostat's degrees."""

    id: DeviceId
    label: Label
    kind: Kind
    room_id: RoomId
    power: PowerName
    value: int
    watts: int
    online: bool = True


@dataclass(frozen=True, slots=True)
class Scene:
    """Devices that are switched together."""

    id: SceneId
    scene_name: SceneName
    device_ids: tuple[str, ...]
    power: PowerName
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A device that is switched by the clock."""

    id: PlanId
    device_id: DeviceId
    at: At
    power: PowerName
    days: Days


@dataclass(slots=True)
class Home(World):
    """Everything there is."""

    rooms: dict[str, Room] = field(default_factory=dict[str, Room])
    devices: dict[str, Device] = field(default_factory=dict[str, Device])
    scenes: dict[str, Scene] = field(default_factory=dict[str, Scene])
    plans: dict[str, Plan] = field(default_factory=dict[str, Plan])


ROOMS = (
    "kitchen", "hallway", "nursery", "study", "attic", "garage", "sunroom", "guest room", "pantry",
    "bathroom", "workshop", "basement",
)  # fmt: skip
LABELS: dict[KindName, tuple[str, ...]] = {
    "light": ("ceiling lamp", "floor lamp", "spotlight", "night light", "light strip"),
    "plug": ("coffee maker", "fan", "humidifier", "radio", "kettle", "air purifier", "freezer"),
    "thermostat": ("thermostat", "radiator", "floor heating"),
    "lock": ("front door", "back door", "cellar door", "side gate"),
    "blind": ("roller blind", "roller shutter", "awning", "curtain"),
}  # fmt: skip
SCENES = (
    "Movie night", "Leaving home", "Sunrise", "Dinner", "Focus", "Party", "Bedtime", "Cosy evening",
)  # fmt: skip
POWERS: dict[PowerName, tuple[str, str]] = {"on": ("on", "打开"), "off": ("off", "关闭")}
DAYS: dict[DaysName, tuple[str, str]] = {
    "every_day": ("every day", "每天"), "weekdays": ("on weekdays", "工作日"),
    "weekend": ("at the weekend", "周末"),
}  # fmt: skip
WARMEST = 24
"""Degrees above which the operator does not heat."""


def seed(rng: Random) -> Home:
    """Make a home of five rooms; lamps of the same name hang in several."""
    world = Home(f"{date(2026, 1, 10) + timedelta(days=rng.randrange(300))} 18:20")
    for name in rng.sample(ROOMS, 5):
        key = new_id(world.rooms, "R", name)
        world.rooms[key] = Room(key, name)
    numbers: dict[KindName, int] = {"light": 5, "plug": 4, "thermostat": 2, "lock": 1, "blind": 1}
    kinds: list[KindName] = [kind for kind, number in numbers.items() for _ in range(number)]
    places = [room for n in numbers.values() for room in rng.sample(list(world.rooms), n)]
    for number, (kind, room) in enumerate(zip(kinds, places, strict=True)):
        label = rng.choice(LABELS[kind])
        key = new_id(world.devices, "D", label, room)
        value = {"light": rng.randrange(10, 100, 10), "thermostat": rng.randint(16, 22)}.get(
            kind, 0
        )
        power, watts = rng.choice(list(POWERS)), rng.choice((5, 9, 40, 60, 350, 1200))
        world.devices[key] = Device(
            key, label, kind, room, power, value, watts, number not in (1, 6)
        )
    for number, name in enumerate(rng.sample(SCENES, 4)):
        key, members = new_id(world.scenes, "S", name), rng.sample(_online(world, "light"), 3)
        ids = tuple(sorted(one.id for one in members))
        world.scenes[key] = Scene(key, name, ids, rng.choice(list(POWERS)), number > 0)
    for device in rng.sample(_online(world, "light", "plug", "blind"), 5):
        at, days = (
            f"{rng.randint(5, 22):02}:{rng.choice(('00', '15', '45'))}",
            rng.choice(list(DAYS)),
        )
        key, power = new_id(world.plans, "T", device.id, at), rng.choice(list(POWERS))
        world.plans[key] = Plan(key, device.id, at, power, days)
    return world


def _online(world: Home, *kinds: str) -> list[Device]:
    return [one for one in world.devices.values() if one.online and one.kind in kinds]


def _reach(world: Home, device_id: str) -> Device:
    device = find(world.devices, device_id, "device")
    check(device.online, "offline", f"The {device.label} does not answer.")
    return device


# --- tools ---------------------------------------------------------------------------------------


@tool("List the rooms, all or by name.", "列出房间，可按名称筛选。")
def list_rooms(world: Home, room_name: RoomName | None = None) -> list[Room]:
    """Return at most five."""
    return [room for room in world.rooms.values() if has(room_name, room.room_name)][:5]


@tool("List the devices of a room, of one kind or all.", "列出房间里的设备，可按类型筛选。",
      errors=("not_found",))  # fmt: skip
def room_devices(world: Home, room_id: RoomId, kind: Kind | None = None) -> list[Device]:
    """Return at most five."""
    find(world.rooms, room_id, "room")
    devices = [one for one in world.devices.values() if one.room_id == room_id]
    return [one for one in devices if same(kind, one.kind)][:5]


@tool("Find devices of the whole home by name or kind.", "在全屋按名称或类型查找设备。")
def find_devices(world: Home, label: Label | None = None, kind: Kind | None = None) -> list[Device]:
    """Return at most five."""
    devices = [one for one in world.devices.values() if has(label, one.label)]
    return [one for one in devices if same(kind, one.kind)][:5]


@tool("Tell the state of a device.", "查询设备状态。", errors=("not_found", "offline"))
def read_device(world: Home, device_id: DeviceId) -> Device:
    """Return the device."""
    return _reach(world, device_id)


@tool("Switch a device on or off.", "打开或关闭设备。", writes=True,
      errors=("not_found", "offline", "no_change"))  # fmt: skip
def switch_device(world: Home, device_id: DeviceId, power: Power) -> Device:
    """Change the power of a device."""
    device = _reach(world, device_id)
    check(device.power != power, "no_change", f"It is {power} already.")
    world.devices[device_id] = replace(device, power=power)
    return world.devices[device_id]


@tool("Set how bright a light is; this switches it on.", "设置灯的亮度，同时开灯。", writes=True,
      errors=("not_found", "offline", "not_dimmable"))  # fmt: skip
def dim_light(world: Home, device_id: DeviceId, level: Level) -> Device:
    """Change the brightness of a light."""
    device = _reach(world, device_id)
    check(device.kind == "light", "not_dimmable", f"The {device.label} is not a light.")
    world.devices[device_id] = replace(device, value=level, power="on")
    return world.devices[device_id]


@tool("Set the temperature that a thermostat keeps.", "设置温控器的目标温度。", writes=True,
      errors=("not_found", "offline", "not_a_thermostat"))  # fmt: skip
def heat_to(world: Home, device_id: DeviceId, degrees: Degrees) -> Device:
    """Change what a thermostat aims at."""
    device = _reach(world, device_id)
    check(device.kind == "thermostat", "not_a_thermostat", f"The {device.label} cannot heat.")
    world.devices[device_id] = replace(device, value=degrees, power="on")
    return world.devices[device_id]


@tool("Note that a device now stands in another room.", "把设备登记到另一个房间。", writes=True,
      errors=("not_found", "name_taken"))  # fmt: skip
def assign_room(world: Home, device_id: DeviceId, room_id: RoomId) -> Device:
    """Change the room of a device; names are unique in a room."""
    device = find(world.devices, device_id, "device")
    find(world.rooms, room_id, "room")
    there = [one.label for one in world.devices.values() if one.room_id == room_id]
    check(device.label not in there, "name_taken", f"That room has a {device.label} already.")
    world.devices[device_id] = replace(device, room_id=room_id)
    return world.devices[device_id]


@tool("List scenes, all or by name.", "列出场景，可按名称筛选。")
def list_scenes(world: Home, scene_name: SceneName | None = None) -> list[Scene]:
    """Return at most five."""
    return [scene for scene in world.scenes.values() if has(scene_name, scene.scene_name)][:5]


@tool("Run a scene: switch all its devices.", "执行场景，切换其中的所有设备。", writes=True,
      errors=("not_found", "disabled"))  # fmt: skip
def run_scene(world: Home, scene_id: SceneId) -> dict[str, int]:
    """Switch the devices of a scene and count those that changed."""
    scene = find(world.scenes, scene_id, "scene")
    check(scene.enabled, "disabled", f"{scene.scene_name} is disabled.")
    devices = [world.devices[key] for key in scene.device_ids]
    changed = [one for one in devices if one.online and one.power != scene.power]
    world.devices |= {one.id: replace(one, power=scene.power) for one in changed}
    return {"switched": len(changed)}


@tool("List the schedules of a device.", "列出设备的定时。")
def device_plans(world: Home, device_id: DeviceId) -> list[Plan]:
    """Return at most five."""
    return [plan for plan in world.plans.values() if plan.device_id == device_id][:5]


@tool("Switch a device by the clock from now on. Returns the schedule.",
      "为设备设置定时开关，返回该定时。", writes=True, errors=("not_found", "conflict")
)  # fmt: skip
def add_plan(
    world: Home, device_id: DeviceId, at: At, power: Power, days: Days = "every_day"
) -> Plan:
    """Add a schedule where the device has none at that time."""
    find(world.devices, device_id, "device")
    taken = any(plan.device_id == device_id and plan.at == at for plan in world.plans.values())
    check(not taken, "conflict", f"The device has a schedule at {at} already.")
    key = new_id(world.plans, "T", device_id, at)
    world.plans[key] = Plan(key, device_id, at, power, days)
    return world.plans[key]


@tool("Delete a schedule.", "删除定时。", writes=True, errors=("not_found",))
def drop_plan(world: Home, plan_id: PlanId) -> dict[str, str]:
    """Remove a schedule."""
    plan = find(world.plans, plan_id, "schedule")
    del world.plans[plan_id]
    return {"deleted": plan.at}


@tool("Tell what it costs to run a device for some hours, at 0.30 a kilowatt hour.",
      "计算设备运行若干小时的电费，每度0.30。", errors=("not_found",))  # fmt: skip
def running_cost(world: Home, device_id: DeviceId, hours: Hours) -> dict[str, float]:
    """Return the energy and its price."""
    energy = find(world.devices, device_id, "device").watts * hours / 1000
    return {"kwh": round(energy, 2), "cost": round(energy * 0.30, 2)}


# --- what users want -----------------------------------------------------------------------------


def _about(world: Home, device: Device, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a device, which people name by its room."""
    room = world.rooms[device.room_id].room_name
    return Goal(calls, told(label=device.label, room_name=room, **facts))


def _switched(world: Home, device: Device, power: PowerName) -> Goal:
    one = Call("switch_device", {"device_id": device.id, "power": power})
    return _about(world, device, one, power=Fact("power", power, POWERS[power]))


@intent(
    en=("Switch the {label} in the {room_name} {power}.", "{room_name}, {label}: {power} please.",
        "Can you turn {power} the {label}[ in the {room_name}]?",
        "I want the {label} {power}[, the one in the {room_name}]."),
    zh=("{power}{room_name}的{label}。", "帮我把[{room_name}的]{label}{power}。"),
    reply_en=("The {label} in the {room_name} is {power}.",),
    reply_zh=("{room_name}的{label}已{power}。",),
)  # fmt: skip
def switch(world: Home, rng: Random) -> Goal:
    """Switch a device to what it is not."""
    device = rng.choice(_online(world, "light", "plug"))
    return _switched(world, device, "off" if device.power == "on" else "on")


@intent(
    en=("Turn the {label} in the {room_name} {power}.",
        "Please put the {room_name} {label} {power}.",
        "{label} in the {room_name} {power}, thanks."),
    zh=("{power}{room_name}的{label}。", "请把{room_name}里的{label}{power}。"),
    reply_en=("The {label} in the {room_name} does not answer, so I could not turn it {power}.",),
    reply_zh=("{room_name}的{label}离线，无法{power}。",), kind="fails",
)  # fmt: skip
def switch_offline(world: Home, rng: Random) -> Goal:
    """Switch a device that does not answer."""
    device = rng.choice([one for one in world.devices.values() if not one.online])
    return _switched(world, device, rng.choice(list(POWERS)))


@intent(
    en=("Dim the {label} in the {room_name}[ to {level} percent].",
        "{level} percent on the {label} in the {room_name}.",
        "It's too bright in the {room_name}. Bring the {label} down[ to {level}%]."),
    zh=("把{room_name}的{label}调到{level}%。",
        "{room_name}太亮了，{label}调一下亮度[，{level}%]。"),
    reply_en=("The {label} in the {room_name} is at {level} percent.",),
    reply_zh=("{room_name}的{label}亮度已设为{level}%。",),
)  # fmt: skip
def dim(world: Home, rng: Random) -> Goal:
    """Set the brightness of a light."""
    device, level = rng.choice(_online(world, "light")), rng.randrange(5, 100, 10)
    one = Call("dim_light", {"device_id": device.id, "level": level})
    return _about(world, device, one, level=level)


@intent(
    en=("Set the {label} in the {room_name} to {level} percent.",
        "{room_name}: {label} at {level} percent, please.", "Dim {label}, {room_name}, {level}%."),
    zh=("把{room_name}的{label}亮度设为{level}%。", "{room_name}的{label}调暗到{level}%。"),
    reply_en=("The {label} in the {room_name} is not a light; it has no brightness.",),
    reply_zh=("{room_name}的{label}不是灯，不能调亮度。",), kind="fails",
)  # fmt: skip
def dim_no_light(world: Home, rng: Random) -> Goal:
    """Set the brightness of something that is not a light."""
    device, level = rng.choice(_online(world, "plug", "blind")), rng.randrange(5, 100, 10)
    one = Call("dim_light", {"device_id": device.id, "level": level})
    return _about(world, device, one, level=level)


@intent(
    en=("I'm cold: set the {label} in the {room_name} to {degrees} degrees.",
        "{degrees} degrees in the {room_name}, please (the {label}).",
        "Change the {label}[ in the {room_name}][ to {degrees} degrees]."),
    zh=("把{room_name}的{label}调到{degrees}度。", "{room_name}要{degrees}度，用{label}。"),
    reply_en=("The {label} in the {room_name} now keeps {degrees} degrees.",),
    reply_zh=("{room_name}的{label}已设为{degrees}度。",),
)  # fmt: skip
def warm(world: Home, rng: Random) -> Goal:
    """Set a temperature that the operator allows."""
    device, degrees = rng.choice(_online(world, "thermostat")), rng.randint(10, WARMEST - 1)
    degrees += degrees >= device.value  # never what it keeps already
    one = Call("heat_to", {"device_id": device.id, "degrees": degrees})
    return _about(world, device, one, degrees=degrees)


@intent(
    en=("Heat the {room_name} to {degrees} degrees with the {label}.",
        "I'm freezing! {label} in the {room_name} to {degrees}.",
        "Put the {label} in the {room_name} at {degrees} degrees."),
    zh=("把{room_name}的{label}开到{degrees}度。",
        "太冷了，{room_name}的{label}调到{degrees}度。"),
    reply_en=("I may not heat above 24 degrees, so I left the {label} in the {room_name}.",),
    reply_zh=("温度不能超过24度，所以没有更改{room_name}的{label}。",), kind="policy",
)  # fmt: skip
def overheat(world: Home, rng: Random) -> Goal:
    """Want more heat than the operator allows."""
    device = rng.choice(_online(world, "thermostat"))
    return _about(world, device, degrees=rng.randint(WARMEST + 1, 30))


@intent(
    en=("The {label} from the {room_name} is now in the {new_room}.",
        "I carried the {label} out of the {room_name}[; it stands in the {new_room}].",
        "Reassign the {room_name} {label}[ to the {new_room}]."),
    zh=("{room_name}的{label}搬到了{new_room}。", "把{room_name}的{label}改到[{new_room}]。"),
    reply_en=("The {label} belongs to the {new_room} now.",),
    reply_zh=("{label}已登记到{new_room}。",),
)  # fmt: skip
def carry(world: Home, rng: Random) -> Goal:
    """Move a plug to another room."""
    device = rng.choice(_online(world, "plug"))
    having = [one.room_id for one in world.devices.values() if one.label == device.label]
    room = rng.choice([room for room in world.rooms.values() if room.id not in having])
    one = Call("assign_room", {"device_id": device.id, "room_id": room.id})
    return _about(world, device, one, new_room=Fact("room_name", room.room_name))


@intent(
    en=("Run {scene_name}.", "Time for {scene_name}!", "Start the {scene_name} scene, please."),
    zh=("执行{scene_name}。", "启动{scene_name}场景。"),
    reply_en=("{scene_name} is on; {result.switched} devices were switched.",),
    reply_zh=("{scene_name}已执行，切换了{result.switched}个设备。",),
)  # fmt: skip
def play_scene(world: Home, rng: Random) -> Goal | None:
    """Run a scene that changes something."""
    for scene in rng.sample(list(world.scenes.values()), len(world.scenes)):
        if scene.enabled and any(world.devices[k].power != scene.power for k in scene.device_ids):
            goal = (Call("run_scene", {"scene_id": scene.id}),)
            return Goal(goal, told(scene_name=scene.scene_name))
    return None


@intent(
    en=("Turn the {label} in the {room_name} {power} at {at}[, {days}].",
        "I'd like the {room_name} {label} to go {power}[ at {at}] {days}.",
        "Timer for the {label} in the {room_name}: {power}, {at}, {days}."),
    zh=("{room_name}的{label}[{days}]在{at}{power}。",
        "给{room_name}的{label}设定时：{days}[{at}]{power}。"),
    reply_en=("The {label} in the {room_name} goes {power} at {at} {days}.",),
    reply_zh=("{room_name}的{label}将{days}{at}{power}。",),
)  # fmt: skip
def plan(world: Home, rng: Random) -> Goal:
    """Add a schedule."""
    device, at = rng.choice(_online(world, "light", "plug")), f"{rng.randint(6, 23):02}:30"
    power, days = rng.choice(list(POWERS)), rng.choice(list(DAYS))
    facts = {"power": Fact("power", power, POWERS[power]), "days": Fact("days", days, DAYS[days])}
    arguments = {"device_id": device.id, "at": at, "power": power, "days": days}
    return _about(world, device, Call("add_plan", arguments), at=at, **facts)


@intent(
    en=("Delete the {at} timer of the {label} in the {room_name}.",
        "The {label} in the {room_name} shouldn't switch at {at} any more.",
        "No more {at} schedule for the {room_name} {label}, please."),
    zh=("删除{room_name}的{label}在{at}的定时。", "{room_name}的{label}不用再在{at}自动开关了。"),
    reply_en=("The {at} schedule of the {label} in the {room_name} is deleted.",),
    reply_zh=("{room_name}的{label}在{at}的定时已删除。",),
)  # fmt: skip
def unplan(world: Home, rng: Random) -> Goal:
    """Delete a schedule."""
    one = rng.choice(list(world.plans.values()))
    drop = Call("drop_plan", {"plan_id": one.id})
    return _about(world, world.devices[one.device_id], drop, at=one.at)


@intent(
    en=("Is the {label} in the {room_name} on?", "Did I leave the {room_name} {label} on?",
        "What about the {label}[ in the {room_name}], on or off?"),
    zh=("{room_name}的{label}开着吗？", "[{room_name}的]{label}现在是什么状态？"),
    reply_en=("The {label} in the {room_name} is {result.power}.",),
    reply_zh=("{room_name}的{label}状态：{result.power}。",),
)  # fmt: skip
def ask_state(world: Home, rng: Random) -> Goal:
    """Learn whether a device is on."""
    device = rng.choice(_online(world, "light", "plug"))
    return _about(world, device, Call("read_device", {"device_id": device.id}))


@intent(
    en=("What would it cost to run the {label} in the {room_name} for {hours} hours?",
        "How expensive is the {room_name} {label}[ over {hours} hours]?",
        "{hours} hours of the {label} in the {room_name}: how much is that?"),
    zh=("{room_name}的{label}开{hours}小时要多少电费？",
        "{room_name}的{label}运行[{hours}小时]花多少钱？"),
    reply_en=("Running it for {hours} hours costs {result.cost}.",),
    reply_zh=("运行{hours}小时的电费是{result.cost}。",),
)  # fmt: skip
def ask_cost(world: Home, rng: Random) -> Goal:
    """Learn what a device costs."""
    device, hours = rng.choice(_online(world, "light", "plug")), rng.randint(2, 48)
    one = Call("running_cost", {"device_id": device.id, "hours": hours})
    return _about(world, device, one, hours=hours)


@intent(
    en=("Open the {label} for me.", "Unlock the {label}, my hands are full.",
        "There's a parcel, let them in through the {label}."),
    zh=("帮我把{label}打开。", "快递到了，开一下{label}的锁。"),
    reply_en=("I may not unlock doors; please open the {label} yourself.",),
    reply_zh=("我不能开锁，请您自己打开{label}。",), kind="policy",
)  # fmt: skip
def unlock(world: Home, rng: Random) -> Goal:
    """Want a door unlocked."""
    return Goal((), told(label=rng.choice(_online(world, "lock")).label))


DOMAIN = domain_of(
    sys.modules[__name__], "a smart home", "智能家居", seed,
    policies_en=("Never unlock a door or gate.", "Never heat above 24 degrees."),
    policies_zh=("不得打开门锁。", "温度不得超过24度。"),
)  # fmt: skip
