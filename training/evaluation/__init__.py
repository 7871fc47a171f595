"""What the figures of every report are made by: metrics, the floor and the ceiling beside them, and pictures."""
