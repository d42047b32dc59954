from language_fixtures import *  # noqa: F403
