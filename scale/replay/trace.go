package replay

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// A Trace is what functions did, minute by minute, in the form in which Microsoft
// published a sample of Azure Functions of 2019 (AzurePublicDataset): counts of
// invocations, and percentiles of run times and of memory.
type Trace struct {
	Functions []Function
	Minutes   int
}

// A Function is one row of a trace.
type Function struct {
	Name    string
	Project string     // the owner, or ""
	Counts  []Count    // of the minutes with invocations, in order
	RunMS   [7]float64 // at the percentiles runPercentiles
	MB      float64    // memory of an instance: the mean of what was allocated
}

// memoryMB is what an instance is promised.
func (f *Function) memoryMB() int { return int(math.Ceil(f.MB)) }

// until returns the counts of so many minutes.
func (f *Function) until(minutes int) []Count {
	n, _ := slices.BinarySearchFunc(f.Counts, int32(minutes), func(c Count, m int32) int { return cmp.Compare(c.Minute, m) })
	return f.Counts[:n]
}

// A Count is the invocations of one minute, from 0.
type Count struct{ Minute, N int32 }

var runPercentiles = [7]float64{0, 0.01, 0.25, 0.50, 0.75, 0.99, 1}

// Read reads the trace in a directory: the files of which the names end in
// inv.csv.gz, run.csv.gz and mem.csv.gz, or in .csv. They are joined on the
// function's hash, and memory on the function's or, as Azure's is of
// applications, the application's. An error is Invalid and names the file and the
// line.
func Read(dir string) (*Trace, error) {
	t := &Trace{}
	index, apps := map[string]int{}, map[string][]int{}
	err := rows(dir, "inv", []string{"HashFunction", "HashApp", "1"}, func(row []string, at map[string]int) error {
		name := row[at["HashFunction"]]
		if _, ok := index[name]; ok {
			return fmt.Errorf("function %.12s is there twice", name)
		}
		f := Function{Name: name}
		if i, ok := at["HashOwner"]; ok {
			f.Project = row[i]
		}
		first := at["1"]
		for m, cell := range row[first:] {
			n, err := strconv.ParseInt(cell, 10, 32)
			if err != nil || n < 0 {
				return fmt.Errorf("minute %d: %q is not a number of invocations", m+1, cell)
			}
			if n > 0 {
				f.Counts = append(f.Counts, Count{int32(m), int32(n)})
			}
		}
		t.Minutes = max(t.Minutes, len(row)-first)
		index[name] = len(t.Functions)
		app := row[at["HashApp"]]
		apps[app] = append(apps[app], len(t.Functions))
		t.Functions = append(t.Functions, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	const average = "percentile_Average_"
	columns := []string{"HashFunction"}
	for _, p := range runPercentiles {
		columns = append(columns, average+strconv.FormatFloat(p*100, 'f', -1, 64))
	}
	err = rows(dir, "run", columns, func(row []string, at map[string]int) error {
		i, ok := index[row[at["HashFunction"]]]
		if !ok {
			return nil
		}
		last := 0.0
		for p, c := range columns[1:] {
			v, err := positive(row[at[c]])
			if err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			last = max(last, v)
			t.Functions[i].RunMS[p] = last
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = rows(dir, "mem", []string{"HashApp", "AverageAllocatedMb"}, func(row []string, at map[string]int) error {
		v, err := positive(row[at["AverageAllocatedMb"]])
		if err != nil {
			return fmt.Errorf("AverageAllocatedMb: %w", err)
		}
		for _, i := range apps[row[at["HashApp"]]] {
			t.Functions[i].MB = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range t.Functions { // of a few functions the memory, or the time, is not known
		f := &t.Functions[i]
		if f.MB == 0 {
			f.MB = 170 // the median of applications, in the paper
		}
		if f.RunMS[6] == 0 {
			f.RunMS = [7]float64{100, 100, 100, 100, 100, 100, 100}
		}
	}
	return t, nil
}

func positive(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v < 1e12) {
		return 0, fmt.Errorf("%q is not a number from 0", s)
	}
	return v, nil
}

// rows calls f for each row of the one file of a kind, with where the columns are.
func rows(dir, kind string, columns []string, f func([]string, map[string]int) error) error {
	name, err := find(dir, kind)
	if err != nil {
		return err
	}
	bad := func(line int, err error) error {
		return lambent.Errorf(lambent.Invalid, "replay.Read", "%s line %d: %w", name, line, err)
	}
	file, err := os.Open(name)
	if err != nil {
		return lambent.Errorf(lambent.Invalid, "replay.Read", "%w", err)
	}
	defer file.Close()
	var in io.Reader = file
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(file)
		if err != nil {
			return bad(1, err)
		}
		in = z
	}
	r := csv.NewReader(in)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return bad(1, err)
	}
	at := map[string]int{}
	for i, h := range head {
		at[strings.TrimPrefix(h, "minute_")] = i
	}
	for _, c := range columns {
		if _, ok := at[c]; !ok {
			return bad(1, fmt.Errorf("there is no column %q", c))
		}
	}
	for line := 2; ; line++ {
		row, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(row, at)
		}
		if err != nil {
			return bad(line, err)
		}
	}
}

func find(dir, kind string) (string, error) {
	for _, end := range []string{kind + ".csv.gz", kind + ".csv"} {
		names, err := filepath.Glob(filepath.Join(dir, "*"+end))
		if err == nil && len(names) > 1 {
			return "", lambent.Errorf(lambent.Invalid, "replay.Read", "%s has several files *%s", dir, end)
		}
		if err == nil && len(names) == 1 {
			return names[0], nil
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return "", lambent.Errorf(lambent.Invalid, "replay.Read", "there is no directory %s", dir)
	}
	return "", lambent.Errorf(lambent.Invalid, "replay.Read", "%s is not a trace: it has no file *%s.csv.gz", dir, kind)
}
