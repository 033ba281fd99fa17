"""`qcompile verify`: original, control and artifact on the same inputs."""
