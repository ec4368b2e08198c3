//! A statement on its way: what handles and tickets carry.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::utils::{batches_to_flight_data, flight_data_to_batches};
use arrow_flight::{FlightData, Ticket};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use prost::Message;
use prost::bytes::Bytes;
use tonic::Status;

use super::rows;
use super::session::Wants;
use super::status::{self, invalid, undecodable};
use crate::{Database, Prepared};

/// Bytes of an id.
const ID: usize = 16;

/// A statement, whatever belongs to it, and what it is known by once it has a ticket.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Statement {
    /// What it is cancelled by.
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    text: String,
    /// The values of its parameters: the columns, and one row.
    #[prost(message, repeated, tag = "3")]
    parameters: Vec<FlightData>,
    #[prost(bool, tag = "4")]
    require_complete: bool,
    #[prost(bool, tag = "5")]
    skip_damaged: bool,
}

impl Statement {
    pub(super) fn new(text: String) -> Self {
        Self { text, ..Self::default() }
    }

    /// The statement of a handle, or of a ticket.
    ///
    /// # Errors
    /// When it is none of this server's.
    pub(super) fn from_handle(handle: &[u8]) -> Result<Self, Status> {
        Self::decode(handle).map_err(|error| undecodable("the handle of the statement", error))
    }

    pub(super) fn handle(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// A new ticket, for what it asks for or the call wants of it.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn ticket(mut self, wants: Wants) -> Result<Ticket, Status> {
        self.id = vec![0; ID];
        getrandom::fill(&mut self.id).map_err(|error| Status::internal(error.to_string()))?;
        let wants = self.wants().or(wants);
        (self.require_complete, self.skip_damaged) = (wants.complete, wants.skip_damaged);
        let ticket = TicketStatementQuery { statement_handle: self.handle() };
        Ok(Ticket::new(ticket.as_any().encode_to_vec()))
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn wants(&self) -> Wants {
        Wants { complete: self.require_complete, skip_damaged: self.skip_damaged }
    }

    /// Gives the parameters their values: the one row of `values`.
    ///
    /// # Errors
    /// When there are more rows, or none.
    pub(super) fn bind(&mut self, values: &RecordBatch) -> Result<(), Status> {
        if values.num_rows() != 1 {
            let rows = values.num_rows();
            return Err(invalid(format!(
                "parameters take one row of values, not {rows}: execute once for each row"
            )));
        }
        let columns = rows::plain(&values.schema());
        let values = rows::in_columns(values, &columns).map_err(status::unwritten)?;
        self.parameters = batches_to_flight_data(&columns, vec![values]).map_err(status::unwritten)?;
        Ok(())
    }

    /// Understands the statement, and puts the values in the place of its parameters.
    ///
    /// # Errors
    /// When it is not understood, or the values are not those that it takes.
    pub(super) async fn prepare(&self, database: &Database) -> Result<Prepared, Status> {
        let prepared = database.prepare(&self.text).await.map_err(|error| status::of(&error))?;
        let wanted = prepared.parameters().map_err(|error| status::of(&error))?;
        let given = self.values()?;
        if wanted.len() != given.len() {
            let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
            let wanted = match &names[..] {
                [] => "no parameters".to_owned(),
                [name] => format!("1 parameter ({name})"),
                names => format!("{} parameters ({})", names.len(), names.join(", ")),
            };
            let were = if given.len() == 1 { "value was" } else { "values were" };
            return Err(invalid(format!("the statement has {wanted}, and {} {were} given", given.len())));
        }
        if given.is_empty() {
            return Ok(prepared);
        }
        let names = wanted.into_iter().map(|(name, _)| name.trim_start_matches('$').to_owned());
        let values: Vec<(String, ScalarValue)> = names.zip(given).collect();
        prepared.with_parameters(values).map_err(|error| status::of(&error))
    }

    /// The values of the parameters. Should the reader panic over what somebody made up, it is not understood; what it allocates is no more
    /// than came.
    fn values(&self) -> Result<Vec<ScalarValue>, Status> {
        if self.parameters.is_empty() {
            return Ok(Vec::new());
        }
        self.parameters.iter().try_for_each(uncompressed)?;
        let read = || -> datafusion::error::Result<Vec<ScalarValue>> {
            let batches = flight_data_to_batches(&self.parameters)?;
            let row =
                batches.first().ok_or_else(|| DataFusionError::Execution("there is no row".to_owned()))?;
            row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
        };
        let what = "the values of the parameters";
        let read =
            catch_unwind(AssertUnwindSafe(read)).map_err(|_| undecodable(what, "they are malformed"))?;
        read.map_err(|error| undecodable(what, error.strip_backtrace()))
    }
}

/// Refuses a message whose values are compressed: as much memory is taken for them as they announce.
///
/// # Errors
/// When they are, or it is no message.
pub(super) fn uncompressed(message: &FlightData) -> Result<(), Status> {
    let what = "the values of the parameters";
    let message =
        arrow_ipc::root_as_message(&message.data_header).map_err(|error| undecodable(what, error))?;
    let dictionary = || message.header_as_dictionary_batch()?.data();
    match message.header_as_record_batch().or_else(dictionary).and_then(|rows| rows.compression()) {
        Some(_) => Err(invalid("the values of the parameters are compressed; send them as they are")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array};
    use arrow_flight::sql::Any;
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
    use tonic::Code;

    use super::*;

    fn values(values: &[f64]) -> RecordBatch {
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("1", values)]).unwrap()
    }

    #[test]
    fn a_ticket_carries_the_statement_and_what_is_wanted_of_it() {
        let mut statement = Statement::new("SELECT $1".into());
        statement.bind(&values(&[2.5])).unwrap();
        let wants = Wants { complete: true, skip_damaged: false };
        let ticket = statement.clone().ticket(wants).unwrap();
        let ticket: TicketStatementQuery = Any::decode(&*ticket.ticket).unwrap().unpack().unwrap().unwrap();
        let read = Statement::from_handle(&ticket.statement_handle).unwrap();
        assert_eq!((read.text(), read.wants(), read.id().len()), ("SELECT $1", wants, ID));
        assert_eq!(read.values().unwrap(), [ScalarValue::Float64(Some(2.5))]);
        let other = statement.ticket(Wants::default()).unwrap();
        assert_ne!(other.ticket, read.handle(), "each has an id of its own");
    }

    #[test]
    fn compressed_values_are_refused() {
        let values = values(&[2.5]);
        let compressed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
        let (mut dictionaries, mut context) = (DictionaryTracker::new(false), IpcWriteContext::default());
        let (_, batch) = IpcDataGenerator::default()
            .encode(&values, &mut dictionaries, &compressed.unwrap(), &mut context)
            .unwrap();
        let mut statement = Statement::new("SELECT $1".into());
        statement.bind(&values).unwrap();
        statement.parameters.truncate(1);
        statement.parameters.push(batch.into());
        let refused = statement.values().unwrap_err();
        assert!(refused.message().contains("are compressed"), "{refused:?}");
    }

    #[test]
    fn parameters_take_one_row() {
        for rows in [&[][..], &[1.0, 2.0]] {
            let refused = Statement::new(String::new()).bind(&values(rows)).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().contains("one row"), "{refused:?}");
        }
    }

    #[test]
    fn what_somebody_made_up_is_refused() {
        assert_eq!(Statement::from_handle(&[0xFF; 40]).unwrap_err().code(), Code::InvalidArgument);
        let mut bound = Statement::new("SELECT $1".into());
        bound.bind(&values(&[1.0])).unwrap();
        let good = bound.encode_to_vec();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Whatever comes out is an answer.
            let _ = Statement::from_handle(&bad).and_then(|statement| statement.values());
        }
        let empty = Statement { parameters: vec![FlightData::default()], ..Statement::default() };
        assert_eq!(empty.values().unwrap_err().code(), Code::InvalidArgument);
    }
}
