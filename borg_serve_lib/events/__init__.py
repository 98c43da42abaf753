"""The events, by area; each module is loaded when something of its area happens."""
