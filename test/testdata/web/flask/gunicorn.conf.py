timeout = 1  # seconds after which a worker that says nothing is killed, as one that was frozen would be
