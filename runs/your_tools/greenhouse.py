"""A small MCP server of the kind that people have: five tools of a plant nursery's greenhouse.

In: MCP over stdin. Out: MCP over stdout. Must not know: who asks.
"""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver import MCPServer
from pydantic import Field

server = MCPServer("greenhouse")


@server.tool()
def start_watering(
    bed: Annotated[str, Field(description="Name of the bed")],
    minutes: Annotated[int, Field(description="How long", ge=1, le=120)],
) -> str:
    """Water a bed for some minutes."""
    return f"Watering {bed} for {minutes} minutes."


@server.tool()
def set_temperature(
    house: Annotated[str, Field(description="Name of the greenhouse")],
    degrees: Annotated[float, Field(description="Temperature in degrees Celsius")],
) -> str:
    """Set the temperature of a greenhouse."""
    return f"{house} is set to {degrees} degrees."


@server.tool()
def record_harvest(
    crop: Annotated[str, Field(description="What was picked")],
    kilos: Annotated[float, Field(description="Weight in kilograms", gt=0)],
    day: Annotated[
        str, Field(description="Day of the harvest", json_schema_extra={"format": "date"})
    ],
) -> str:
    """Record a harvest."""
    return f"{kilos} kg of {crop} on {day}."


@server.tool()
def order_seeds(
    crop: Annotated[str, Field(description="Which plant")],
    packets: Annotated[int, Field(description="Number of packets", ge=1)],
    supplier: Annotated[Literal["Verdant", "Oldfield", "Sunroot"], Field(description="Where")],
) -> str:
    """Order packets of seeds from a supplier."""
    return f"Ordered {packets} packets of {crop} from {supplier}."


@server.tool()
def report_pest(
    bed: Annotated[str, Field(description="Name of the bed")],
    pest: Annotated[str, Field(description="What was seen")],
    urgent: Annotated[bool, Field(description="Whether it cannot wait")] = False,
) -> str:
    """Report a pest in a bed."""
    return f"{pest} in {bed}{', urgent' if urgent else ''}."


if __name__ == "__main__":
    server.run()
