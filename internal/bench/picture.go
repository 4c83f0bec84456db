package main

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// draw draws the throughput of every row over that of its best peer.
func (r *report) draw(path string) error {
	var labels []string
	var better, worse plotter.Values
	for i := len(r.sections) - 1; i >= 0; i-- {
		s := r.sections[i]
		for j := len(s.rows) - 1; j >= 0; j-- {
			labels = append(labels, fmt.Sprintf("%s: %s", s.group.title, s.rows[j].load))
			if v := s.rows[j].ratios().value; v >= 1 {
				better, worse = append(better, v), append(worse, 0)
			} else {
				better, worse = append(better, 0), append(worse, v)
			}
		}
	}
	p := plot.New()
	p.Title.Text = "Throughput over that of the best peer"
	p.X.Min = 0
	for _, bars := range []struct {
		values plotter.Values
		color  color.Color
	}{
		{better, color.RGBA{0x2b, 0x7a, 0x78, 0xff}},
		{worse, color.RGBA{0xc7, 0x5b, 0x39, 0xff}},
	} {
		chart, err := plotter.NewBarChart(bars.values, vg.Points(9))
		if err != nil {
			return err
		}
		chart.Horizontal = true
		chart.LineStyle.Width = 0
		chart.Color = bars.color
		p.Add(chart)
	}
	even, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(labels)) - 0.5}})
	if err != nil {
		return err
	}
	even.Dashes = []vg.Length{vg.Points(3), vg.Points(3)}
	p.Add(even)
	p.NominalY(labels...)
	return p.Save(9*vg.Inch, vg.Length(len(labels))*0.19*vg.Inch+vg.Inch, path)
}
