"""Values that the standard encoder does not write as simplejson, which AWS's client has, does."""

import os
import re
import sys


class Converter:
    def __init__(self):
        self.mark = None  # of decimals
        self.above = []  # ids of the containers being converted

    def copy(self, value):
        self.above.clear()
        return self.convert(value)

    def convert(self, value):
        """Returns a copy with named tuples as objects, bytes as text, decimals as marked strings."""
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, (str, int, float)) or value is None:
            return value
        if isinstance(value, tuple) and callable(getattr(value, "_asdict", None)):
            value = value._asdict()
        if not isinstance(value, (dict, list, tuple)):
            return self.decimal(value)
        if id(value) in self.above:
            raise ValueError("Circular reference detected")
        self.above.append(id(value))
        if isinstance(value, dict):
            copy = {k.decode() if isinstance(k, bytes) else k: self.convert(v) for k, v in value.items()}
        else:
            copy = [self.convert(v) for v in value]
        self.above.pop()
        return copy

    def decimal(self, value):
        # Whoever has a Decimal has the module: it is never imported for the question.
        module = sys.modules.get("decimal")
        if module is None or not isinstance(value, module.Decimal):
            return value
        if value.is_nan():
            return float("nan")
        if self.mark is None:
            self.mark = "decimal-" + os.urandom(16).hex() + ":"
        return self.mark + str(value)

    def unmark(self, text):
        """Returns the JSON text of a converted value with its decimals as numbers."""
        return text if self.mark is None else re.sub('"' + self.mark + '([^"]*)"', r"\1", text)
