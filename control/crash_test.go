package control_test

const crashDirEnv = "LAMBENT_TEST_CRASH_DIR"

func deployUntilKilled(string) {}
