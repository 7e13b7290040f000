package detect

import (
	"io/fs"
	"path"
	"regexp"
	"strings"

	"lambent"
)

const (
	javaInvoker = "java-function-invoker"

	// invokerHint brings what serves the code.
	invokerHint = " && mvn dependency:copy -Dartifact=com.google.cloud.functions.invoker:java-function-invoker:1.4.1 -DoutputDirectory=invoker && lambent deploy"
)

var (
	// Where the runtime looks for Google's invoker, and for code.
	javaInvokers = []string{"invoker", ".", "lib", "target/dependency"}
	javaCode     = []string{"target", ".", "lib", "build/libs"}

	javaTarget  = regexp.MustCompile(`<functionTarget>\s*([\w.$]+)\s*</functionTarget>`)
	javaPackage = regexp.MustCompile(`(?m)^\s*package\s+([\w.]+)\s*;?`)
	javaClass   = regexp.MustCompile(`\bclass\s+(\w+)[^{;]*?(?:\bimplements\b|:)[^{;]*?\b(?:HttpFunction|BackgroundFunction|RawBackgroundFunction|CloudEventsFunction|TypedFunction)\b`)
)

// googleJava recognises functions of Google's in Java by what they are written against,
// or by the invoker beside them. They are compiled where jars are missing.
func googleJava(fsys fs.FS, s Settings) (*found, error) {
	if !s.allows(GoogleJava) {
		return nil, nil
	}
	hit := &found{runtime: GoogleJava, handler: s.Handler}
	build, hint := "", ""
	for _, file := range []string{"pom.xml", "build.gradle", "build.gradle.kts"} {
		if text := source(fsys, file); strings.Contains(text, "functions-framework-api") || strings.Contains(text, javaInvoker) {
			hit.why = file + " asks for Google's functions framework"
			if build, hint = "gradle", "gradle assemble"; file == "pom.xml" {
				build, hint = "maven", "mvn package dependency:copy-dependencies -DincludeScope=runtime"
			}
			if m := javaTarget.FindStringSubmatch(text); m != nil && hit.handler == "" {
				hit.handler = m[1]
			}
			break
		}
	}
	invoker, code := "", ""
	for _, dir := range javaInvokers {
		invoker = firstJar(fsys, dir, invoker, func(name string) bool { return strings.HasPrefix(name, javaInvoker) })
	}
	for _, dir := range javaCode {
		code = firstJar(fsys, dir, code, func(name string) bool { return !strings.HasPrefix(name, javaInvoker) })
	}
	if info, err := fs.Stat(fsys, "target/classes"); err == nil && info.IsDir() && code == "" {
		code = "target/classes"
	}
	switch {
	case hit.why == "" && invoker == "":
		return nil, nil
	case hit.why == "":
		hit.why = "Google's invoker is there, " + invoker
	case (code == "" || invoker == "") && isDir(fsys, "src/main"):
		hit.build = build
	case code == "":
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and nothing is compiled: there is neither src/main nor a jar in %s", hit.why, strings.Join(javaCode, ", ")).WithHint("%s%s", hint, invokerHint)
	case invoker == "":
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and its invoker is not beside it: there is no %s*.jar in %s", hit.why, javaInvoker, strings.Join(javaInvokers, ", ")).WithHint("%s%s", hint, invokerHint)
	}
	if hit.handler != "" {
		return hit, nil
	}
	return hit, hit.choose("src/main", javaFunctions(fsys))
}

// firstJar returns the jar that was found before, or else the first in a directory.
func firstJar(fsys fs.FS, dir, before string, is func(name string) bool) string {
	if before != "" {
		return before
	}
	jars, _ := fs.Glob(fsys, path.Join(dir, "*.jar")) // the only error is a bad pattern
	for _, jar := range jars {
		if is(path.Base(jar)) {
			return jar
		}
	}
	return ""
}

// javaFunctions returns the classes of functions in the source, by their whole names.
func javaFunctions(fsys fs.FS) (names []string) {
	_ = fs.WalkDir(fsys, "src/main", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(file) != ".java" && path.Ext(file) != ".kt" {
			return nil // what cannot be read has none
		}
		text := goComment.ReplaceAllString(source(fsys, file), "")
		prefix := ""
		if m := javaPackage.FindStringSubmatch(text); m != nil {
			prefix = m[1] + "."
		}
		for _, m := range javaClass.FindAllStringSubmatch(text, -1) {
			names = append(names, prefix+m[1])
		}
		return nil
	})
	return names
}
