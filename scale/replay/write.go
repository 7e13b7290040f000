package replay

import (
	"encoding/csv"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteCSV writes a line for each contender and minute, with units in the names of
// the columns.
func WriteCSV(w io.Writer, results []*Result) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"policy", "minute", "invocations", "cold_starts", "delay_ms", "instances", "idle_gb", "busy_gb", "evicted"}) // an error stays, and is Error's
	f := func(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }
	for _, r := range results {
		for i := range r.Minutes {
			m := &r.Minutes[i]
			_ = out.Write([]string{
				r.Name, strconv.Itoa(i + 1), strconv.FormatInt(m.Invocations, 10), strconv.FormatInt(m.ColdStarts, 10),
				f(float64(m.Delay) / float64(time.Millisecond)), f(m.Instances()), f(m.IdleGB()), f(m.BusyGB()), strconv.FormatInt(m.Evicted, 10),
			})
		}
	}
	out.Flush()
	return out.Error()
}

// WriteSVG draws what idle instances take over the day, and the delay that starts
// add up to.
func WriteSVG(w io.Writer, results []*Result) error {
	const width, height, left, top = 860, 240, 80, 50
	colours := []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"} // told apart by the colour-blind, too (Okabe and Ito)
	var b strings.Builder
	rows := (len(results) + 3) / 4
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width+left+20, 2*(height+top)+20+18*rows)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	chart := func(y int, title string, value func(*Result, int) float64) {
		most := 0.0
		for _, r := range results {
			for i := range r.Minutes {
				most = max(most, value(r, i))
			}
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="14">%s</text><text x="%d" y="%d" text-anchor="end">%.4g</text><text x="%d" y="%d" text-anchor="end">0</text>`+"\n",
			left, y-12, title, left-6, y+10, most, left-6, y+height)
		fmt.Fprintf(&b, `<path d="M%d %dV%dH%d" fill="none" stroke="black"/>`+"\n", left, y, y+height, left+width)
		for k, r := range results {
			var points []string
			for i := range r.Minutes {
				x := left + float64(i)/float64(max(len(r.Minutes)-1, 1))*width
				points = append(points, fmt.Sprintf("%.1f,%.1f", x, float64(y+height)-value(r, i)/max(most, 1e-9)*height))
			}
			fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s"/>`+"\n", strings.Join(points, " "), colours[k%len(colours)])
		}
	}
	chart(top, "memory of idle instances, GB, by minute", func(r *Result, i int) float64 { return r.Minutes[i].IdleGB() })
	sums := map[*Result][]float64{}
	for _, r := range results {
		sum := 0.0
		for _, m := range r.Minutes {
			sum += m.Delay.Seconds()
			sums[r] = append(sums[r], sum)
		}
	}
	chart(2*top+height, "start delay so far, s", func(r *Result, i int) float64 { return sums[r][i] })
	for k, r := range results {
		x, y := left+k%4*220, 2*(height+top)+20+18*(k/4)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", x, y, colours[k%len(colours)], x+18, y+11, html.EscapeString(r.Name))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
