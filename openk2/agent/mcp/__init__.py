"""The Model Context Protocol: other people's tools for our agent, our tools for other agents."""
