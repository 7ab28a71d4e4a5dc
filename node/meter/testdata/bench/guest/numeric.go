package main

import "math"

// nbody moves five planets.
func nbody() uint64 {
	type body struct {
		p, v [3]float64
		mass float64
	}
	r := newRandom()
	var bodies [5]body
	for i := range bodies {
		b := &bodies[i]
		for k := range 3 {
			b.p[k] = float64(r.next()>>11) / (1 << 53) * 30
			b.v[k] = float64(r.next()>>11) / (1 << 53) * 2
		}
		b.mass = 0.01 * float64(i)
	}
	bodies[0].mass = 39.5
	const dt = 0.001
	for range 2_500_000 {
		for i := range bodies {
			a := &bodies[i]
			for j := i + 1; j < len(bodies); j++ {
				b := &bodies[j]
				dx, dy, dz := a.p[0]-b.p[0], a.p[1]-b.p[1], a.p[2]-b.p[2]
				d2 := dx*dx + dy*dy + dz*dz
				mag := dt / (d2 * math.Sqrt(d2))
				a.v[0] -= dx * b.mass * mag
				a.v[1] -= dy * b.mass * mag
				a.v[2] -= dz * b.mass * mag
				b.v[0] += dx * a.mass * mag
				b.v[1] += dy * a.mass * mag
				b.v[2] += dz * a.mass * mag
			}
		}
		for i := range bodies {
			a := &bodies[i]
			for k := range a.p {
				a.p[k] += dt * a.v[k]
			}
		}
	}
	return math.Float64bits(bodies[0].p[0] + bodies[4].p[2])
}

// matrix multiplies slices of slices, whose every access is checked.
func matrix() uint64 {
	const n = 200
	r := newRandom()
	a, b, c := make([][]float64, n), make([][]float64, n), make([][]float64, n)
	for i := range n {
		a[i], b[i], c[i] = make([]float64, n), make([]float64, n), make([]float64, n)
		for j := range n {
			a[i][j], b[i][j] = float64(r.next()%1000), float64(r.next()%1000)
		}
	}
	sum := 0.0
	for range 12 {
		for i := range n {
			for j := range n {
				s := 0.0
				for k := range n {
					s += a[i][k] * b[k][j]
				}
				c[i][j] = s
			}
		}
		sum += c[3][n-1]
		a[3][0]++
	}
	return math.Float64bits(sum)
}
