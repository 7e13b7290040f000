# Told of process groups by lines "+ PGID" and "- PGID". When its input ends,
# which it does however the server ended, it kills every group still on the list.
trap '' INT TERM HUP
groups=' '
while read -r op pgid; do
	case $op in
	+) groups="$groups$pgid " ;;
	-) case $groups in
		*" $pgid "*) groups="${groups%%" $pgid "*} ${groups#*" $pgid "}" ;;
		esac ;;
	esac
done
for pgid in $groups; do kill -KILL "-$pgid"; done 2>/dev/null
