//! Both answers beside each other in lines.
//!
//! Says nothing with colour alone: `|` marks what differs, `<` and `>` what only one side has, `~` what differs and does
//! not count.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthChar as _;

use super::align::{self, Aligned, Mark, Row};
use super::{AnswerReport, SideBySide, SideLimits};
use crate::report::text::Paint;
use crate::report::words::{counted, plain, plural};

/// Rows of what is equal around what differs.
const CONTEXT_ROWS: usize = 3;

/// Columns of one side below which nothing can be read.
const SIDE_COLUMNS_MIN: usize = 16;

impl SideBySide {
    /// The example in lines, no wider than `limits.columns`.
    pub fn to_text(&self, colours: bool, limits: &SideLimits) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        self.write_text(&mut text, &Paint { on: colours }, limits).unwrap_or_default();
        text
    }

    fn write_text(&self, out: &mut String, paint: &Paint, limits: &SideLimits) -> fmt::Result {
        let title = format!("[{}] {}: {}", self.number, plain(&self.route), plain(&self.signature));
        writeln!(out, "{}", paint.bold(&title))?;
        writeln!(
            out,
            "Seen in {}, first {}, last {}, cause {}",
            plural(self.count, "comparison"),
            self.first_seen,
            self.last_seen,
            self.id
        )?;
        let request = &self.example.request;
        writeln!(out, "\n{} {}", plain(&request.method), plain(&request.target))?;
        match (&self.control, &self.candidate) {
            (Some(control), Some(candidate)) => self.write_sides(out, paint, limits, control, candidate)?,
            (_, _) => self.write_differences(out)?,
        }
        writeln!(out, "\nRepeat against B: {}", self.example.curl)?;
        self.example.curl_notes.iter().try_for_each(|note| writeln!(out, "  {}", plain(note)))
    }

    fn write_sides(
        &self,
        out: &mut String,
        paint: &Paint,
        limits: &SideLimits,
        control: &AnswerReport,
        candidate: &AnswerReport,
    ) -> fmt::Result {
        let columns = (limits.columns.saturating_sub(3) / 2).max(SIDE_COLUMNS_MIN);
        let write = |out: &mut String, row: &Row| write_row(out, paint, row, columns);
        let title = |text: &str| Some(text.to_owned());
        writeln!(out)?;
        write(out, &Row { mark: Mark::Same, control: title("A"), candidate: title("B") })?;
        writeln!(out, "{}", "-".repeat(columns * 2 + 3))?;
        write(out, &align::status(control, candidate))?;
        align::headers(self, control, candidate).iter().try_for_each(|row| write(out, row))?;
        let omitted = control.headers_omitted.saturating_add(candidate.headers_omitted);
        if omitted > 0 {
            writeln!(out, "({} too long to keep)", plural(omitted, "header field"))?;
        }
        writeln!(out)?;
        let (Some(a), Some(b)) = (&control.body, &candidate.body) else {
            let shown = |answer: &AnswerReport| match &answer.body {
                Some(text) => format!("(text of {} bytes)", counted(text.len() as u64)),
                None => format!("({} bytes that are no text, or not kept whole)", counted(answer.body_bytes)),
            };
            let row =
                Row { mark: Mark::Same, control: Some(shown(control)), candidate: Some(shown(candidate)) };
            write(out, &row)?;
            return self.write_differences(out);
        };
        let Aligned { rows, is_cut } = align::bodies(self, a, b, limits);
        for group in shown_groups(&rows, limits) {
            match group {
                Group::Rows(rows) => rows.iter().try_for_each(|row| write(out, row))?,
                Group::Folded(count) => writeln!(out, "({} equal)", plural(count as u64, "line"))?,
                Group::Left(count) => writeln!(out, "({} more)", plural(count as u64, "line"))?,
            }
        }
        for (name, answer) in [("A", control), ("B", candidate)] {
            if answer.body_bytes_kept < answer.body_bytes {
                let (kept, all) = (counted(answer.body_bytes_kept), counted(answer.body_bytes));
                writeln!(out, "({name}: {kept} of {all} bytes were kept)")?;
            }
        }
        if is_cut {
            writeln!(out, "(What follows line {} is not shown)", counted(limits.lines_max as u64))?;
        }
        let is_shown = |mark| rows.iter().any(|row| row.mark == mark);
        if is_shown(Mark::Hidden) {
            writeln!(
                out,
                "\n~ differs, and does not count: a rule hides it, it is noise, or it means the same."
            )?;
        }
        // What differs may lie behind what was kept.
        let has_head = |difference: &&crate::journal::StoredDifference| {
            difference.path == "status" || difference.path.starts_with("header:")
        };
        if !is_shown(Mark::Differs) && self.differences().iter().any(|difference| !has_head(&difference)) {
            self.write_differences(out)?;
        }
        Ok(())
    }

    /// What the comparison said, for want of answers that show it.
    fn write_differences(&self, out: &mut String) -> fmt::Result {
        if self.control.is_none() || self.candidate.is_none() {
            writeln!(out, "\nThe answers were not kept (journal.answers_bytes_max, or an older program).")?;
        }
        for difference in self.differences() {
            let value = |value: &Option<String>| value.as_deref().map_or("(absent)".to_owned(), plain);
            writeln!(out, "\n{} ({})", plain(&difference.place), difference.kind)?;
            writeln!(out, "  A: {}\n  B: {}", value(&difference.control), value(&difference.candidate))?;
        }
        Ok(())
    }
}

/// Rows that are shown, or how many are not.
#[derive(Debug, PartialEq, Eq)]
enum Group<'r> {
    Rows(&'r [Row]),
    Folded(usize),
    Left(usize),
}

/// All rows when they are few; else those near what differs, and as many as the bound lets.
fn shown_groups<'r>(rows: &'r [Row], limits: &SideLimits) -> Vec<Group<'r>> {
    if rows.len() <= limits.rows_whole_max {
        return vec![Group::Rows(rows)];
    }
    let mut groups = Vec::new();
    let (mut at, mut shown) = (0, 0);
    for run in rows.chunk_by(|a, b| (a.mark == Mark::Same) == (b.mark == Mark::Same)) {
        let left = rows.len() - at;
        if shown >= limits.rows_max {
            groups.push(Group::Left(left));
            break;
        }
        let is_same = run.first().is_some_and(|row| row.mark == Mark::Same);
        let (is_first, is_last) = (at == 0, left == run.len());
        let (before, after) =
            (if is_first { 0 } else { CONTEXT_ROWS }, if is_last { 0 } else { CONTEXT_ROWS });
        at += run.len();
        if is_same && run.len() > before + after + 1 {
            let (head, rest) = run.split_at(before);
            let (middle, tail) = rest.split_at(rest.len() - after);
            groups.extend([Group::Rows(head), Group::Folded(middle.len()), Group::Rows(tail)]);
            shown += head.len() + tail.len() + 1;
        } else {
            let (fits, more) = run.split_at(run.len().min(limits.rows_max - shown));
            groups.push(Group::Rows(fits));
            if !more.is_empty() {
                groups.push(Group::Left(left - fits.len()));
                break;
            }
            shown += fits.len();
        }
    }
    groups
}

fn write_row(out: &mut String, paint: &Paint, row: &Row, columns: usize) -> fmt::Result {
    let Row { mark, control, candidate } = row;
    let (a, b) = (control.as_deref().map(plain_line), candidate.as_deref().map(plain_line));
    let start = match (&a, &b) {
        (Some(a), Some(b)) if *mark != Mark::Same => {
            a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count()
        }
        (_, _) => 0,
    };
    let [a, b] = [a, b].map(|text| text.unwrap_or_default()).map(|text| fit(&text, start, columns));
    let sign = match (mark, control, candidate) {
        (Mark::Same, _, _) => ' ',
        (Mark::Hidden, _, _) => '~',
        (Mark::Differs, Some(_), None) => '<',
        (Mark::Differs, None, Some(_)) => '>',
        (Mark::Differs, _, _) => '|',
    };
    // Codes of ECMA-48 section 8.3.117: red, green, faint.
    let (code_a, code_b) = match mark {
        Mark::Same => return writeln!(out, "{}", format!("{a} {sign} {b}").trim_end()),
        Mark::Differs => ("31", "32"),
        Mark::Hidden => ("2", "2"),
    };
    let b = b.trim_end();
    writeln!(out, "{}", format!("{} {sign} {}", paint.with(code_a, &a), paint.with(code_b, b)).trim_end())
}

/// The line with everything escaped that a terminal would act on; a tab is two spaces.
fn plain_line(text: &str) -> String {
    plain(&text.replace('\t', "  "))
}

/// As much of a text as fits, filled up with spaces. Where not all of it does, it begins before character `start`.
fn fit(text: &str, start: usize, columns: usize) -> String {
    let width = |text: &str| text.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
    let mut shown = text.to_owned();
    let mut used = width(text);
    if used > columns {
        let lead = columns / 3;
        let skipped = if start > lead * 2 { start - lead } else { 0 };
        shown = if skipped > 0 { "…".to_owned() } else { String::new() };
        used = shown.chars().count();
        for c in text.chars().skip(skipped) {
            let wide = c.width().unwrap_or(0);
            if used + wide > columns - 1 {
                shown.push('…');
                used += 1;
                break;
            }
            shown.push(c);
            used += wide;
        }
    }
    shown + &" ".repeat(columns.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, start: usize, columns: usize, expected: &str) {
        let fitted = fit(text, start, columns);
        assert_eq!(fitted, expected);
        let width: usize = fitted.chars().map(|c| c.width().unwrap_or(0)).sum();
        assert_eq!(width, columns, "{fitted:?}");
    }

    #[test]
    fn a_line_fits_its_column_and_shows_where_it_differs() {
        check("abc", 0, 5, "abc  ");
        check("abcdef", 0, 5, "abcd…");
        check("0123456789abcdefghij", 15, 9, "…cdefghi…");
        check("0123456789abcdefghij", 19, 9, "…ghij    ");
        check("日本語", 0, 5, "日本…");
        check("日本語", 0, 8, "日本語  ");
    }

    #[test]
    fn what_is_equal_is_folded_once_there_is_much_of_it() {
        let limits = SideLimits { rows_whole_max: 10, rows_max: 20, ..SideLimits::default() };
        let row = |mark| Row { mark, control: None, candidate: None };
        let rows: Vec<Row> =
            (0..60).map(|at| row(if at == 30 { Mark::Differs } else { Mark::Same })).collect();
        let sizes = |rows: &[Row]| {
            let size = |group: &Group<'_>| match group {
                Group::Rows(rows) => rows.len().to_string(),
                Group::Folded(count) => format!("={count}"),
                Group::Left(count) => format!("+{count}"),
            };
            shown_groups(rows, &limits).iter().map(size).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(sizes(&rows), "0 =27 3 1 3 =26 0");
        assert_eq!(sizes(&rows[..10]), "10");
        let different: Vec<Row> = (0..60).map(|_| row(Mark::Differs)).collect();
        assert_eq!(sizes(&different), "20 +40");
    }
}
