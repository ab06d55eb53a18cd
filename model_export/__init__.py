"""The workstation's half: recordings -> mixtures -> training -> evaluation -> an int8 model with its manifest."""
