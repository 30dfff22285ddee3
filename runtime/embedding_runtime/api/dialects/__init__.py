"""The forms of other servers' requests and answers, one module each. None of them knows of the engine."""
