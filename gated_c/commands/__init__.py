"""The commands of ``gated-c``: a module each, whose ``add`` puts its parser among the others."""
