package cpu

// The waiters are a binary heap by virtual time, in which shares know their
// place, so that one that gives up leaves in O(log n). All is done under mu.

const absent = -1

func (s *Scheduler) push(sh *Share) {
	sh.place = len(s.waiters)
	s.waiters = append(s.waiters, sh)
	s.up(sh.place)
}

func (s *Scheduler) pop() *Share {
	first := s.waiters[0]
	s.remove(first)
	return first
}

func (s *Scheduler) remove(sh *Share) {
	i, last := sh.place, len(s.waiters)-1
	if i != last {
		s.swap(i, last)
	}
	s.waiters[last] = nil
	s.waiters = s.waiters[:last]
	sh.place = absent
	if i < last {
		s.up(i)
		s.down(i)
	}
}

func (s *Scheduler) less(i, j int) bool { return s.waiters[i].virtual < s.waiters[j].virtual }

func (s *Scheduler) swap(i, j int) {
	w := s.waiters
	w[i], w[j] = w[j], w[i]
	w[i].place, w[j].place = i, j
}

func (s *Scheduler) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !s.less(i, parent) {
			return
		}
		s.swap(i, parent)
		i = parent
	}
}

func (s *Scheduler) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2; child++ {
			if child < len(s.waiters) && s.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		s.swap(i, least)
		i = least
	}
}
