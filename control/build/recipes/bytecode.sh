# The byte code of the project's own modules, as pip.sh has it of packages. Nothing is
# imported for that: nothing of the project runs. What cannot be compiled is left out.
find . -name '*.pyc' -delete # what the project brings stays as it is
"$INTERPRETER" -I -m compileall -q --invalidation-mode unchecked-hash -s "$work" -p /var/task "$work" >/dev/null || true
find . ! -type d ! -name '*.pyc' -delete
answer . .
