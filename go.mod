module github.com/strata-storage/strata

go 1.26.0

require (
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.49.0
	pgregory.net/rapid v1.3.0
)

require github.com/HdrHistogram/hdrhistogram-go v1.4.0

require go.starlark.net v0.0.0-20260908191801-89a6a09411d5
