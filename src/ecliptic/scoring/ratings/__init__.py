"""Which direction among the vectors do people's ratings or choices follow? Fits, and how good."""
