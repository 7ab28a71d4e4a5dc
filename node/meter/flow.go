package meter

// flow follows the control flow of a function, and finds what the dearest path
// of each region costs. A region is what is executed between two checks: the body
// of the function or of a loop, without the loops inside. As branches backwards lead to
// loop heads only, every path within a region meets each instruction at most
// once, and one pass in order finds the dearest.
//
// Charging the dearest path, not the sum of all instructions, is what keeps an
// interpreter's loop, with a case for each instruction of its language, from paying for all cases each time.
type flow struct {
	frames  []frame
	regions []region
	cur     int64 // cost of the dearest path from the region's begin to here, or unreachable
}

const unreachable = -1

type frame struct {
	kind   byte   // opBlock, opLoop, opIf, opElse
	region int    // the region that its label belongs to
	arity  uint64 // values that a branch to its label carries
	best   int64  // the dearest path to its label, of those that were met
	entry  int64  // of an if: the path to its condition
	mark   int    // of a loop: where its cost is put in the output

	added uint32 // labels that the output has more, around this one and here

	tight    bool
	targeted bool // a branch leads to its label
}

type region struct {
	entry int64 // in the region around: the path to the loop
	max   int64
}

func (f *flow) reset(arity uint64) {
	f.frames = append(f.frames[:0], frame{kind: opBlock, arity: arity, best: unreachable})
	f.regions = append(f.regions[:0], region{})
	f.cur = 0
}

// spend adds to the path.
func (f *flow) spend(cost uint64) {
	if f.cur == unreachable {
		return
	}
	f.cur = int64(min(uint64(f.cur)+cost, 2*maxCost))
	r := &f.regions[len(f.regions)-1]
	r.max = max(r.max, f.cur)
}

// branch notes a path from here to a label, which exists.
func (f *flow) branch(depth uint32) {
	target := f.frame(depth)
	target.targeted = true
	if target.kind == opLoop {
		return // back to a check
	}
	path := f.cur
	if inner := target.region + 1; path != unreachable && inner < len(f.regions) {
		path = f.regions[inner].entry // what was spent since is charged to the loops that it leaves
	}
	target.best = max(target.best, path)
}

func (f *flow) stop() { f.cur = unreachable }

func (f *flow) begin(kind byte, arity uint64) {
	f.frames = append(f.frames, frame{
		kind: kind, region: len(f.regions) - 1, arity: arity, best: unreachable, entry: f.cur, added: f.added(),
	})
	if kind == opLoop {
		f.regions = append(f.regions, region{entry: f.cur})
		f.cur = 0
	}
}

func (f *flow) otherwise() {
	t := &f.frames[len(f.frames)-1]
	t.best = max(t.best, f.cur)
	f.cur = t.entry
	t.kind = opElse
}

// end leaves the innermost block, and returns its frame, and the cost of the
// region that ends with it if it is a loop.
func (f *flow) end() (frame, uint64) {
	t := f.frames[len(f.frames)-1]
	f.frames = f.frames[:len(f.frames)-1]
	if t.kind == opLoop {
		r := f.regions[len(f.regions)-1]
		f.regions = f.regions[:len(f.regions)-1]
		if f.cur != unreachable {
			f.cur = r.entry
		}
		return t, uint64(r.max)
	}
	f.cur = max(f.cur, t.best)
	if t.kind == opIf {
		f.cur = max(f.cur, t.entry)
	}
	return t, 0
}

// frame is that of a label.
func (f *flow) frame(depth uint32) *frame { return &f.frames[len(f.frames)-1-int(depth)] }

// added is how many labels there are more around this place. All are those of
// one tight loop, as they have no loops inside.
func (f *flow) added() uint32 { return f.frames[len(f.frames)-1].added }

// leavesTight tells whether a branch from within a tight loop leads out of it.
func (f *flow) leavesTight(depth uint32) bool { return f.frame(depth).added < f.added() }

// label is the number that a label has in the output.
func (f *flow) label(depth uint32) uint32 { return depth + f.added() - f.frame(depth).added }

// loops is how many loops are around this place.
func (f *flow) loops() int { return len(f.regions) - 1 }

// total is the cost of the outermost region.
func (f *flow) total() uint64 { return uint64(f.regions[0].max) }
