"""Logging, as AWS's client sets it up for a function."""

import json
import logging
import os
import sys
import time
import traceback


class Logger(logging.Handler):
    """Writes records to standard output with the id of the invocation under way."""

    def emit(self, record):
        sys.stdout.write(self.format(record))  # a record that cannot be formatted is the caller's error, as on AWS

    def filter(self, record):
        record.aws_request_id, record.tenant_id = agent.under_way.request_id, agent.under_way.tenant_id
        return super().filter(record)


STANDARD_FIELDS = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created msecs "
    "relativeCreated thread threadName processName process taskName aws_request_id tenant_id".split()
)


class JSONFormatter(logging.Formatter):
    def __init__(self):
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%SZ")
        self.encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def format(self, record):
        record.levelno = min(50, max(0, record.levelno)) // 10 * 10
        record.levelname = logging.getLevelName(record.levelno)
        whole = isinstance(record.msg, dict) and not record.args
        line = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if whole else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, value, tb = record.exc_info
            line["stackTrace"] = traceback.format_tb(tb)
            line["errorType"] = kind.__name__ if kind else None
            line["errorMessage"] = str(value)
        line["requestId"] = record.aws_request_id
        if record.exc_info:
            line["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
        if record.tenant_id is not None:
            line["tenantId"] = record.tenant_id
        for name, value in record.__dict__.items():
            if name not in STANDARD_FIELDS and name not in line:
                line[name] = value
        return self.encode({k: v for k, v in line.items() if v is not None}) + "\n"


PREPARED = []


def text_logger():
    logger = Logger()
    text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    logger.setFormatter(logging.Formatter(text, "%Y-%m-%dT%H:%M:%S"))
    return logger


def prepare():
    """Makes what most functions will have."""
    PREPARED.append(text_logger())


def set_up(json_format):
    logging.Formatter.converter = time.gmtime
    if json_format:
        logger = Logger()
        logger.setFormatter(JSONFormatter())
    else:
        logger = PREPARED.pop() if PREPARED else text_logger()
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = "DEBUG" if level == "TRACE" else level
    if isinstance(logging.getLevelName(level), int):
        logging.root.setLevel(level)
    logging.root.addHandler(logger)
