# Google's functions for Java: the jar of the project, the jars that it depends on, and
# the invoker that serves it, where the runtime looks for them.
JAVA_HOME=${INTERPRETER%/bin/java}
export JAVA_HOME MAVEN_OPTS="-Duser.home=$HOME"
need mvn
[ -x "$JAVA_HOME/bin/javac" ] || missing "javac, of a JDK,"
rm -rf target
mvn -B -ntp -Dstyle.color=never package dependency:copy-dependencies -DincludeScope=runtime -DskipTests
mkdir -p "$TMPDIR/result/target" "$TMPDIR/result/invoker"
set -- target/dependency/java-function-invoker*.jar
[ -e "$1" ] || mvn -B -ntp -Dstyle.color=never dependency:copy -Dartifact=com.google.cloud.functions.invoker:java-function-invoker:1.4.1 \
  -DoutputDirectory="$TMPDIR/result/invoker"
for jar in target/*.jar; do
  case $jar in
  target/original-* | *-sources.jar | *-javadoc.jar | *-tests.jar) ;;
  *) cp "$jar" "$TMPDIR/result/target" ;;
  esac
done
[ ! -d target/dependency ] || cp -R target/dependency "$TMPDIR/result/target"
answer "$TMPDIR/result" .
