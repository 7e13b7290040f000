# Google's functions for Java: the jar of the project, the jars that it depends on, and
# the invoker that serves it, where the runtime looks for them.
JAVA_HOME=${INTERPRETER%/bin/java}
export JAVA_HOME MAVEN_OPTS="-Duser.home=$HOME"
need mvn
[ -x "$JAVA_HOME/bin/javac" ] || missing "javac, of a JDK,"
maven() { mvn -B -ntp -Dstyle.color=never "$@"; }
package() { maven package dependency:copy-dependencies -DincludeScope=runtime -DskipTests; }
invoker() {
  set -- target/dependency/java-function-invoker*.jar
  [ -e "$1" ] || maven dependency:copy -Dartifact=com.google.cloud.functions.invoker:java-function-invoker:1.4.1 \
    -DoutputDirectory="$TMPDIR/result/invoker"
}
unfound() { find "$HOME/.m2/repository" -name '*.lastUpdated' "$@"; }
rm -rf target
mkdir -p "$TMPDIR/result/target" "$TMPDIR/result/invoker" "$HOME/.m2/repository"
if [ -n "$fetch" ]; then # only a build finds all that a build needs
  package || {
    [ -z "$(unfound)" ] || exit 1
    echo "without the source Maven does not come to the end: its plugins are asked what they need"
    maven org.apache.maven.plugins:maven-dependency-plugin:3.8.1:go-offline dependency:copy-dependencies -DincludeScope=runtime
  }
  invoker
  unfound -delete # or it is not looked for again
  answer "$HOME" .m2/repository
  exit
fi
package
invoker
for jar in target/*.jar; do
  case $jar in
  target/original-* | *-sources.jar | *-javadoc.jar | *-tests.jar) ;;
  *) cp "$jar" "$TMPDIR/result/target" ;;
  esac
done
[ ! -d target/dependency ] || cp -R target/dependency "$TMPDIR/result/target"
answer "$TMPDIR/result" .
