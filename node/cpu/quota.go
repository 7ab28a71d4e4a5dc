package cpu

const (
	// parts is into how many buckets a window of a quota is divided. What was
	// used counts for up to one bucket longer than a window.
	parts = 32
	// maxDebt bounds what can be owed, in windows: after a pause of the whole
	// process nobody is to sleep for minutes.
	maxDebt = 20
)

// quota holds a share to a part of one core. In any period of the length of one
// window, wherever it begins, it has no more than limit and one slice: buckets
// say how much was used when, where windows that are fixed to the clock would
// allow twice as much around their edges. And in the long run it has no more than
// its part, however long slices are. It is guarded by Scheduler.mu.
type quota struct {
	millis int64 // thousandths of a core
	limit  int64 // nanoseconds of each window
	width  int64 // of a bucket, in nanoseconds
	used   [parts + 1]int64
	newest int64 // bucket of the last time seen; that of number n is used[n%len(used)]
	paid   int64 // when all will have been earned that was used
}

func newQuota(window, millis int64) *quota {
	return &quota{millis: millis, limit: max(1, window*millis/core), width: max(1, window/parts)}
}

// window is the period that limit is of.
func (q *quota) window() int64 { return q.width * parts }

// at is the bucket of number n.
func (q *quota) at(n int64) *int64 { return &q.used[n%int64(len(q.used))] }

// advance empties the buckets that are too old at now.
func (q *quota) advance(now int64) {
	n := now / q.width
	for b := max(q.newest+1, n-parts); b <= n; b++ {
		*q.at(b) = 0
	}
	q.newest = max(q.newest, n)
}

// charge notes that a slot was held from one time to another.
func (q *quota) charge(from, to int64) {
	q.paid = min(max(q.paid, from)+(to-from)*core/q.millis, to+maxDebt*q.window())

	q.advance(to)
	for b := q.newest; b >= 0 && b >= q.newest-parts; b-- {
		begin := max(from, b*q.width)
		*q.at(b) += to - begin
		if begin == from {
			return
		}
		to = begin
	}
}

// next is the first time, from now on, at which the share may hold a slot.
func (q *quota) next(now int64) int64 {
	earned := max(now, q.paid-q.window()) // a window's quota may be used at once
	q.advance(now)
	var sum int64
	for _, u := range q.used {
		sum += u
	}
	// No more of the oldest bucket is within the window than there is room for.
	oldest := q.newest - parts
	end, room := (q.newest+1)*q.width, (q.newest+1)*q.width-now
	if oldest >= 0 {
		sum -= max(0, *q.at(oldest)-room)
	}
	if sum < q.limit {
		return earned
	}
	// It goes on once some of it is free, not for each nanosecond. The more that
	// is, the more of a quota is not had that was used in several pieces.
	need := sum - q.limit + min(q.limit/32, q.window()/100) + 1
	for b := oldest; ; b++ { // ends, since all that is used leaves in the end
		if b >= 0 {
			part := min(*q.at(b), room)
			if part >= need {
				return max(end-part+need, earned)
			}
			need -= part
		}
		end, room = end+q.width, q.width
	}
}
