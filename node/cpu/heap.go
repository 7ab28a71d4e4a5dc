package cpu

// heap is a binary heap of shares by their tags, and by order of arrival where
// that is the same. Shares know their place, so that one that gives up leaves in
// O(log n). It is guarded by Scheduler.mu.
type heap []*Share

// first is the share that is due next, or nil.
func (h heap) first() *Share {
	if len(h) == 0 {
		return nil
	}
	return h[0]
}

func (h *heap) push(sh *Share) {
	sh.place = len(*h)
	*h = append(*h, sh)
	h.up(sh.place)
}

func (h *heap) pop() *Share {
	first := (*h)[0]
	h.remove(first)
	return first
}

// replace takes the first out and puts sh in.
func (h *heap) replace(sh *Share) *Share {
	first := (*h)[0]
	(*h)[0], sh.place = sh, 0
	h.down(0)
	return first
}

func (h *heap) remove(sh *Share) {
	i, last := sh.place, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.up(i)
		h.down(i)
	}
}

func (h heap) less(i, j int) bool {
	if d := h[i].tag() - h[j].tag(); d != 0 {
		return d < 0
	}
	return h[i].arrival-h[j].arrival < 0
}

func (h heap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h heap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h heap) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
