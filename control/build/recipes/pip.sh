# What requirements.txt asks for, beside the code as functions import it, and compiled:
# nothing may be written there later. The code cannot change either, so that byte code
# need not be held against it.
"$INTERPRETER" -I -m pip --version >/dev/null 2>&1 || missing "pip of $INTERPRETER"
mkdir "$TMPDIR/packages"
"$INTERPRETER" -I -m pip install --no-input --no-cache-dir --no-compile --disable-pip-version-check --no-warn-script-location \
  --progress-bar off --root-user-action ignore --target "$TMPDIR/packages" -r requirements.txt
"$INTERPRETER" -I -m compileall -q -j 0 --invalidation-mode unchecked-hash "$TMPDIR/packages" >/dev/null || true
answer "$TMPDIR/packages" .
