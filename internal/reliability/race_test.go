//go:build race

package reliability

// sampleYears: the race detector makes time pass ten times as slowly.
const sampleYears = 1
