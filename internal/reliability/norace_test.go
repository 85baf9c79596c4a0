//go:build !race

package reliability

const sampleYears = 10
