"""What every inverter shares: forward operators, measurement losses, latents, schedules and the optimisation loop."""
