# Google's functions for Java, by Gradle: the project's own, where its wrapper can have
# it. The project's jars stay where Gradle leaves them, the rest is as by maven.sh.
JAVA_HOME=${INTERPRETER%/bin/java}
export JAVA_HOME GRADLE_USER_HOME="$HOME/.gradle" GRADLE_OPTS="-Duser.home=$HOME ${GRADLE_OPTS-}" RESULT="$TMPDIR/result"
[ -x "$JAVA_HOME/bin/javac" ] || missing "javac, of a JDK,"
gradle=gradle
if [ -f gradlew ]; then
  if sh ./gradlew --version >"$TMPDIR/wrapper" 2>&1; then
    gradle="sh ./gradlew"
  else
    tail -n 5 "$TMPDIR/wrapper"
    echo "gradlew does not get the project's own Gradle: the server's is taken"
  fi
fi
[ "$gradle" != gradle ] || need gradle
cat >"$TMPDIR/lambent.gradle" <<'END'
projectsEvaluated { gradle ->
  def project = gradle.rootProject
  if (!project.configurations.findByName('runtimeClasspath')) {
    throw new GradleException('the project at the top has no plugin java: deploy the directory of the one that has')
  }
  project.tasks.create(name: 'lambent', type: Copy, dependsOn: 'assemble') {
    destinationDir = new File(System.getenv('RESULT'))
    duplicatesStrategy = DuplicatesStrategy.INCLUDE
    into('target/dependency') { from project.configurations.runtimeClasspath }
    into('invoker') {
      from project.configurations.detachedConfiguration(project.dependencies.create('com.google.cloud.functions.invoker:java-function-invoker:1.4.1@jar'))
    }
    if (System.getenv('BUILD_FETCH')) { // without a source nothing is compiled, or looked for to compile with
      def classpaths = project.allprojects.collect { [it.configurations.findByName('compileClasspath'), it.configurations.findByName('annotationProcessor')] }
      into('classpath') { from classpaths.flatten().findAll { it != null } }
    }
  }
}
END
rm -rf build
mkdir -p "$RESULT/build/libs" "$GRADLE_USER_HOME"
$gradle --no-daemon --console=plain -I "$TMPDIR/lambent.gradle" lambent
if [ -n "$fetch" ]; then # what was downloaded, and nothing that was made of it
  for file in "$GRADLE_USER_HOME"/* "$GRADLE_USER_HOME"/caches/* "$GRADLE_USER_HOME"/wrapper/dists/*/*/*.zip; do
    case $file in
    */caches | */caches/modules-* | */wrapper) ;;
    *) rm -rf "$file" ;;
    esac
  done
  answer "$HOME" .gradle
  exit
fi
for jar in build/libs/*.jar; do
  case $jar in
  *-sources.jar | *-javadoc.jar | *-tests.jar | *-plain.jar) ;;
  *) [ ! -f "$jar" ] || cp "$jar" "$RESULT/build/libs" ;;
  esac
done
set -- "$RESULT"/build/libs/*.jar
[ -f "$1" ] || fail "Gradle leaves no jar in build/libs"
answer "$RESULT" .
