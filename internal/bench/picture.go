package main

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// A bar of a picture.
type bar struct {
	label string
	value float64
}

// bars are the throughput of every row over that of its best peer.
func (r *report) bars() (all []bar) {
	for _, s := range r.sections {
		for _, row := range s.rows {
			all = append(all, bar{s.group.title + ": " + row.load.String(), row.ratios().value})
		}
	}
	return all
}

// draw draws bars, the first one on top, with a line at 1.
func draw(path, title string, bars []bar) error {
	var labels []string
	var better, worse plotter.Values
	for i := len(bars) - 1; i >= 0; i-- {
		labels = append(labels, bars[i].label)
		if v := bars[i].value; v >= 1 {
			better, worse = append(better, v), append(worse, 0)
		} else {
			better, worse = append(better, 0), append(worse, v)
		}
	}
	p := plot.New()
	p.Title.Text = title
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
