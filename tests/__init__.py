"""The suite. Time decides nothing in it: hypothesis, too, lets an example take as long as a loaded machine needs."""

from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
